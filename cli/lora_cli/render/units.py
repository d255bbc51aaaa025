"""Numbers, times and tables as people read them."""

from collections.abc import Iterable, Sequence
from datetime import datetime

_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", "K", "M", "B")


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 45s, 3m20s, 2h5m, 4d1h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60}m" if whole % 3600 // 60 else f"{whole // 3600}h"
    hours = whole % 86_400 // 3600
    return f"{whole // 86_400}d{hours}h" if hours else f"{whole // 86_400}d"


def age(then: datetime | None, now: datetime) -> str:
    """Return how long ago a time was."""
    return duration(max(0.0, (now - then).total_seconds())) if then else ""


def size(count: float) -> str:
    """Return bytes with three significant digits."""
    return _scaled(count, _BYTES)


def number(count: float) -> str:
    """Return a count with three significant digits."""
    return _scaled(count, _COUNTS)


def _scaled(value: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}".strip()
        value /= 1000
    return f"{value:.3g} {units[-1]}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, as kubectl prints one: three spaces between columns, nothing at the end."""
    everything = [list(headers), *([" ".join(cell.split()) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(headers))]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
