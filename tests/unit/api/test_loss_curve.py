"""The loss curve that trainer and operator share: bounded, sorted, finite, evenly spread, and short on the way."""

import math
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lora_api.loss_curve import MAX_CURVE_POINTS, CurvePoint, PackedCurve, curve_of, shown_loss, thinned

Point = tuple[int, float | None, float | None]
PACKED: TypeAdapter[list[CurvePoint] | None] = TypeAdapter(PackedCurve)


def point(step: int, loss: float | None = None, eval_loss: float | None = None) -> CurvePoint:
    return CurvePoint(step=step, loss=loss, eval_loss=eval_loss)


def values(curve: list[CurvePoint]) -> list[Point]:
    return [(each.step, each.loss, each.eval_loss) for each in curve]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(None, None), (math.nan, None), (-math.inf, None), (1.23456789, 1.23457), (0.000123456789, 0.000123457), (0, 0)],
)
def test_a_loss_has_six_digits_or_is_none(loss: float | None, expected: float | None) -> None:
    assert shown_loss(loss) == expected


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([point(2, 1.5), point(1, 2.0)], [(1, 2.0, None), (2, 1.5, None)], id="sorted"),
        pytest.param(
            [point(0, eval_loss=3.0), point(1, 2.5), point(2, 2.0), point(2, eval_loss=1.8)],
            [(0, None, 3.0), (1, 2.5, None), (2, 2.0, 1.8)],
            id="loss and evaluation of one step, and the base model before the first",
        ),
        pytest.param([point(3, 2.0), point(3, 1.9)], [(3, 1.9, None)], id="a step that was done again"),
        pytest.param(
            [point(1, math.nan), point(2, math.inf, 1.5), point(3)],
            [(2, None, 1.5)],
            id="what is no number is left out",
        ),
    ],
)
def test_table(points: list[CurvePoint], expected: list[Point]) -> None:
    assert values(curve_of(points)) == expected


@pytest.mark.parametrize("total", [61, 200, 1_000, 30_000])
@pytest.mark.parametrize("most", [60, 15])
def test_a_long_run_stays_evenly_spread(total: int, most: int) -> None:
    result = thinned([point(step, 2.0) for step in range(1, total + 1)], most)
    assert len(result) == most
    assert (result[0].step, result[-1].step) == (1, total)
    assert max(after.step - before.step for before, after in pairwise(result)) <= 3 * total / most


def test_the_first_loss_and_rare_evaluations_stay() -> None:
    points = [point(step, 2.0) for step in range(1, 1001)]
    evaluations = [point(step, eval_loss=1.0) for step in range(0, 1001, 100)]
    result = curve_of([*points, *evaluations])
    assert [each.step for each in result if each.eval_loss is not None] == list(range(0, 1001, 100))
    assert next(each.step for each in result if each.loss is not None) == 1


def test_a_very_long_run_takes_no_time_from_the_last_words() -> None:
    points = [point(step, 2.0) for step in range(100_000)]
    begun = time.process_time()
    assert len(thinned(points)) == MAX_CURVE_POINTS
    assert time.process_time() - begun < 10, "it is not quadratic; about half a second"


losses = st.none() | st.floats(allow_nan=True, allow_infinity=True)
curves = st.lists(st.builds(point, st.integers(0, 500), losses, losses), max_size=300)


@given(curves)
def test_properties_of_any_points(points: list[CurvePoint]) -> None:
    result = curve_of(points)
    steps = [each.step for each in result]
    assert len(result) <= MAX_CURVE_POINTS
    assert steps == sorted(set(steps))
    assert all(math.isfinite(loss) for each in result for loss in (each.loss, each.eval_loss) if loss is not None)
    assert all(each.loss is not None or each.eval_loss is not None for each in result)
    assert curve_of(result) == result, "a curve gives itself"
    assert PACKED.validate_json(PACKED.dump_json(result)) == result, "it arrives as it was sent"


def test_on_the_way_it_is_two_lists_of_pairs_without_a_hole() -> None:
    curve = [point(0, eval_loss=3.5), point(1, 2.5), point(2, 2.25, 2.0)]
    assert PACKED.dump_json(curve) == b'{"loss":[[1,2.5],[2,2.25]],"evalLoss":[[0,3.5],[2,2.0]]}'


@pytest.mark.parametrize(
    "text",
    [
        '"a text"',
        "7",
        '[{"step": 1, "loss": 2.0}]',
        '{"loss": [[1, 2.5, 9]]}',
        '{"loss": [[1]]}',
        '{"loss": [[-1, 2.5]]}',
        '{"loss": [[1e300, 2.5]]}',
        '{"loss": [["one", 2.5]]}',
        '{"loss": 5}',
        "null",
    ],
)
def test_what_is_no_curve_is_none_and_no_error(text: str) -> None:
    assert PACKED.validate_json(text) is None


def test_a_list_without_end_is_thinned_when_it_is_read() -> None:
    read = PACKED.validate_json('{"loss": [' + ",".join(f"[{step}, 2.0]" for step in range(5000)) + '], "new": 1}')
    assert read is not None
    assert len(read) == MAX_CURVE_POINTS
