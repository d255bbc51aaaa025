"""A curve in the terminal: braille dots, four rows and two columns of them in a character."""

import math
from collections.abc import Sequence

Point = tuple[float, float]
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_MARK = "◆"


def draw(line: Sequence[Point], marks: Sequence[Point], width: int, height: int, *, unicode: bool = True) -> list[str]:
    """Return a picture of a line, and of single points over it, with the bounds of both axes.

    `width` and `height` are characters of the picture without its axes. Points that are not finite are left out.
    Without `unicode`, a terminal of plain ASCII gets stars and crosses.
    """
    line, marks = _finite(line), _finite(marks)
    everything = [*line, *marks]
    if not everything:
        return []
    area = _Area.around(everything, width, height)
    dots = [[0] * width for _ in range(height)]
    for start, end in zip(line, line[1:] or line, strict=False):
        for column, row in area.between(start, end):
            dots[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    rows = [[_character(cell, unicode=unicode) for cell in row] for row in dots]
    for mark in marks:
        column, row = area.dot(mark)
        rows[row // 4][column // 2] = _MARK if unicode else "x"
    return _framed(rows, area, unicode=unicode)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [each for each in points if math.isfinite(each[0]) and math.isfinite(each[1])]


def _character(cell: int, *, unicode: bool) -> str:
    if unicode:
        return chr(_BRAILLE + cell) if cell else " "
    return "*" if cell else " "


class _Area:
    """Turns values into dots."""

    def __init__(self, low: Point, high: Point, width: int, height: int) -> None:
        self.low, self.high = low, high
        self._columns, self._rows = 2 * width - 1, 4 * height - 1

    @classmethod
    def around(cls, points: Sequence[Point], width: int, height: int) -> "_Area":
        across, up = [each[0] for each in points], [each[1] for each in points]
        return cls((min(across), min(up)), (max(across), max(up)), width, height)

    def dot(self, point: Point) -> tuple[int, int]:
        """Return column and row of a point; the highest value is in row 0."""
        column = self._share(point[0], 0) * self._columns
        row = (1 - self._share(point[1], 1)) * self._rows
        return round(column), round(row)

    def _share(self, value: float, axis: int) -> float:
        span = self.high[axis] - self.low[axis]
        return (value - self.low[axis]) / span if span else 0.5 * axis

    def between(self, start: Point, end: Point) -> list[tuple[int, int]]:
        """Return the dots of a straight line."""
        (column, row), (last_column, last_row) = self.dot(start), self.dot(end)
        count = max(abs(last_column - column), abs(last_row - row), 1)
        steps = [each / count for each in range(count + 1)]
        return [(round(column + t * (last_column - column)), round(row + t * (last_row - row))) for t in steps]


def _framed(rows: list[list[str]], area: _Area, *, unicode: bool) -> list[str]:
    """Return the rows between their axes: the highest and lowest value, the first and last step."""
    side, corner, floor = ("│", "└", "─") if unicode else ("|", "+", "-")
    labels = [""] * len(rows)
    labels[-1], labels[0] = f"{area.low[1]:.4g}", f"{area.high[1]:.4g}"
    margin = max(len(each) for each in labels)
    lines = [f"{label:>{margin}} {side}{''.join(row)}".rstrip() for label, row in zip(labels, rows, strict=True)]
    first, last = f"{area.low[0]:g}", f"{area.high[0]:g}"
    width = len(rows[0])
    steps = first + last.rjust(max(width - len(first), len(last) + 1))
    return [*lines, f"{'':>{margin}} {corner}{floor * width}", f"{'':>{margin}}  {steps}"]
