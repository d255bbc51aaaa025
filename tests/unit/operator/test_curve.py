"""The loss curve of the status: bounded, sorted, and changed only by news."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_api.loss_curve import MAX_CURVE_POINTS, CurvePoint
from lora_api.messages import Progress, TerminationMessage
from lora_operator.domain.curve import complete, extend

Point = tuple[int, float | None, float | None]


def progress(
    step: int, loss: float | None = None, eval_loss: float | None = None, resumed: int | None = None
) -> Progress:
    return Progress(step=step, loss=loss, eval_loss=eval_loss, resumed_from_step=resumed)


def points(curve: list[CurvePoint]) -> list[Point]:
    return [(each.step, each.loss, each.eval_loss) for each in curve]


def curve(*said: Progress) -> list[CurvePoint]:
    result: list[CurvePoint] = []
    for each in said:
        result = extend(result, each)
    return result


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([progress(1, 2.5), progress(2, 2.25)], [(1, 2.5, None), (2, 2.25, None)], id="steps follow"),
        pytest.param([progress(0), progress(0, 3.0)], [], id="before the first step there is no loss"),
        pytest.param([progress(5)], [], id="a step without a loss"),
        pytest.param([progress(5, math.nan), progress(6, math.inf, -math.inf)], [], id="not finite"),
        pytest.param([progress(5, math.nan, 1.5)], [(5, None, 1.5)], id="only the evaluation is finite"),
        pytest.param([progress(5, 2.0), progress(5, 1.9)], [(5, 1.9, None)], id="same step, another loss"),
        pytest.param([progress(5, 2.0), progress(5, 2.0, 1.8)], [(5, 2.0, 1.8)], id="same step, now evaluated"),
        pytest.param([progress(5, 2.0, 1.8), progress(5)], [(5, 2.0, 1.8)], id="same step, nothing said"),
        pytest.param(
            [progress(5, 2.0, 1.8), progress(6, 1.9, 1.8), progress(7, 1.8, 1.7)],
            [(5, 2.0, 1.8), (6, 1.9, None), (7, 1.8, 1.7)],
            id="an evaluation that is only repeated belongs to its own step",
        ),
        pytest.param([progress(5, 1.23456789)], [(5, 1.23457, None)], id="six digits"),
        pytest.param(
            [progress(10, 2.0), progress(50, 1.5), progress(60, 1.4), progress(51, 1.49, resumed=50)],
            [(10, 2.0, None), (50, 1.5, None), (51, 1.49, None)],
            id="back to a checkpoint: what came after it is gone",
        ),
        pytest.param(
            [progress(50, 1.5), progress(60, 1.4), progress(58, 1.41, resumed=50), progress(61, 1.3, resumed=50)],
            [(50, 1.5, None), (58, 1.41, None), (61, 1.3, None)],
            id="back to a checkpoint and on: later answers of the same attempt drop nothing",
        ),
        pytest.param(
            [progress(60, 1.4), progress(3, 2.2)], [(3, 2.2, None)], id="all over again, without a checkpoint"
        ),
        pytest.param(
            [progress(60, 1.4), progress(0), progress(50)], [(60, 1.4, None)], id="an attempt that only starts"
        ),
    ],
)
def test_table(said: list[Progress], expected: list[Point]) -> None:
    assert points(curve(*said)) == expected


@pytest.mark.parametrize("exact", [1.234567, 0.000123456, 1.23454996, 123.45678, 2.0])
def test_an_attempt_that_goes_on_repeats_an_evaluation_that_the_curve_has_in_more_digits(exact: float) -> None:
    left = complete([], TerminationMessage(reason="", message="", loss_curve=[CurvePoint(step=5, eval_loss=exact)]))
    resumed = extend(left, progress(6, 2.0, round(exact, 4), resumed=5))
    assert [each.step for each in resumed if each.eval_loss is not None] == [5]
    again = extend(resumed, progress(7, 2.0, round(exact * 0.99 - 0.0002, 4), resumed=5))
    assert [each.step for each in again if each.eval_loss is not None] == [5, 7]


def test_a_long_run_stays_evenly_spread() -> None:
    for total in (200, 1_000, 10_000):
        result = curve(*(progress(step, 2.0) for step in range(1, total + 1)))
        assert len(result) == MAX_CURVE_POINTS
        assert (result[0].step, result[-1].step) == (1, total)
        gaps = [after.step - before.step for before, after in pairwise(result)]
        assert max(gaps) <= 3 * total / MAX_CURVE_POINTS, gaps


def test_of_rare_evaluations_none_is_lost() -> None:
    said = [progress(step, 2.0, 3.0 - step / 1000 if step % 100 == 0 else None) for step in range(1, 1001)]
    kept = [each.step for each in curve(*said) if each.eval_loss is not None]
    assert kept == list(range(100, 1001, 100))


def test_many_evaluations_are_thinned_out_too() -> None:
    said = [progress(step, 2.0, 3.0 - step / 10_000) for step in range(1, 2001)]
    result = curve(*said)
    assert len(result) == MAX_CURVE_POINTS
    assert max(after.step - before.step for before, after in pairwise(result)) <= 3 * 2000 / MAX_CURVE_POINTS


HEARD = [CurvePoint(step=3, loss=2.0)]
WHOLE = [CurvePoint(step=0, eval_loss=3.0), CurvePoint(step=1, loss=2.5), CurvePoint(step=4, loss=1.5, eval_loss=1.75)]


@pytest.mark.parametrize(
    ("heard", "said", "expected"),
    [
        pytest.param([], WHOLE, WHOLE, id="a run that was over before anybody asked"),
        pytest.param(HEARD, WHOLE, WHOLE, id="it knows more than what was heard"),
        pytest.param(HEARD, None, HEARD, id="an older trainer"),
        pytest.param(HEARD, [], HEARD, id="nothing measured"),
        pytest.param(WHOLE, HEARD, HEARD, id="the training went back"),
    ],
)
def test_last_words_carry_the_whole_curve(
    heard: list[CurvePoint], said: list[CurvePoint] | None, expected: list[CurvePoint]
) -> None:
    words = TerminationMessage(reason="Finished", message="", loss_curve=said)
    once = complete(heard, words)
    assert once == expected
    assert complete(once, words) == once, "the same words again change nothing"


def test_whatever_last_words_say_the_curve_is_one() -> None:
    said = [CurvePoint(step=step, loss=math.nan if step % 2 else 1.23456789) for step in range(500, 0, -1)]
    taken = complete(HEARD, TerminationMessage(reason="Finished", message="", loss_curve=said))
    assert len(taken) == MAX_CURVE_POINTS
    assert [each.step for each in taken] == sorted(each.step for each in taken)
    assert {each.loss for each in taken} == {1.23457}


losses = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([1.5, 1.25])
answers = st.builds(progress, st.integers(0, 300), losses, losses, st.none() | st.integers(0, 300))
jumps = st.lists(answers, max_size=30)
runs = st.lists(st.tuples(st.integers(1, 9), losses, losses), min_size=1, max_size=200)


def climbing(run: list[tuple[int, float | None, float | None]]) -> list[Progress]:
    step, said = 0, []
    for ahead, loss, eval_loss in run:
        step += ahead
        said.append(progress(step, loss, eval_loss))
    return said


def check(before: list[CurvePoint], said: Progress) -> list[CurvePoint]:
    after = extend(before, said)
    steps = [each.step for each in after]
    assert len(after) <= MAX_CURVE_POINTS
    assert steps == sorted(set(steps))
    assert all(each.loss is not None or each.eval_loss is not None for each in after)
    assert all(math.isfinite(loss) for each in after for loss in (each.loss, each.eval_loss) if loss is not None)
    assert extend(after, said) == after, "the same answer again changes nothing"
    if said.step > 0 and said.loss is not None and math.isfinite(said.loss):
        assert after[-1].step == said.step
        assert after[-1].loss == pytest.approx(said.loss, rel=1e-5)
    return after


@settings(deadline=None)
@given(runs)
def test_properties_of_a_run_that_goes_on(run: list[tuple[int, float | None, float | None]]) -> None:
    result: list[CurvePoint] = []
    first: int | None = None
    for said in climbing(run):
        result = check(result, said)
        first = first or (result[0].step if result else None)
        assert not result or result[0].step == first, "the first point stays"


@settings(deadline=None)
@given(runs, jumps)
def test_properties_of_any_answers(run: list[tuple[int, float | None, float | None]], jumped: list[Progress]) -> None:
    result: list[CurvePoint] = []
    for said in [*climbing(run), *jumped]:
        result = check(result, said)


@settings(deadline=None)
@given(runs, answers)
def test_a_curve_is_never_changed_in_place(run: list[tuple[int, float | None, float | None]], said: Progress) -> None:
    result = curve(*climbing(run))
    copy = list(result)
    extend(result, said)
    assert result == copy
