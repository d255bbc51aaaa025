"""Which pod is asked next: each at its time, often where somebody waits, and nobody waits for one that hangs."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from lora_api.messages import Progress
from lora_operator.cluster.rota import MOST_YOUNG, PLACES, PodKey, Rota, young_pause
from lora_operator.domain.observed import PodView

INTERVAL = 15.0
KEY = PodKey("team-a", "support-bot")
SOON = 0.5
YOUNG = 2.0


def running(number: int = 1, ip: str = "10.0.0.1") -> PodView:
    created = "2026-01-02T03:04:05Z"
    return PodView(name=f"pod-{number}", uid=f"pod-{number}", created=created, phase="Running", running=True, ip=ip)


def rota(chance: Callable[[], float] = lambda: 0.0, forget_after: float = 1800.0) -> Rota:
    return Rota(INTERVAL, forget_after, chance)


def eager_rota(chance: Callable[[], float] = lambda: 0.0) -> Rota:
    return Rota(INTERVAL, 1800.0, chance, eager_interval=SOON)


def young_rota(chance: Callable[[], float] = lambda: 0.0) -> Rota:
    return Rota(INTERVAL, 1800.0, chance, young_interval=YOUNG)


def keys(count: int) -> list[PodKey]:
    return [PodKey("team-a", f"job-{number}") for number in range(count)]


def answer(plan: Rota, now: float, step: int | None) -> bool | None:
    """Take the pod that is due and let it answer, or not. Returns whether that was news; None when nobody is due."""
    entry = plan.take(now)
    if entry is None:
        return None
    return plan.finish(entry, None if step is None else Progress(step=step), now)


def next_due(plan: Rota, now: float) -> float:
    seconds = plan.wait(now)
    assert seconds is not None
    return now + seconds


def test_a_new_pod_is_asked_within_two_seconds() -> None:
    plan = rota(lambda: 0.9)
    plan.want(KEY, running(), 100.0)
    assert next_due(plan, 100.0) == pytest.approx(101.8)


def test_a_pod_that_runs_for_long_is_asked_within_an_interval_and_is_never_young() -> None:
    """As after a restart of the operator: a thousand of them are spread, and heard of one after the other."""
    plan = young_rota(lambda: 0.9)
    plan.want(KEY, running(), 100.0, age=3600.0)
    assert next_due(plan, 100.0) == pytest.approx(100.0 + 0.9 * INTERVAL)
    now = next_due(plan, 100.0)
    for expected in (1.9 * INTERVAL, INTERVAL, INTERVAL):
        answer(plan, now, step=1)
        assert next_due(plan, now) == pytest.approx(now + expected)
        now = next_due(plan, now)


@pytest.mark.parametrize(("age", "pause"), [(0.0, YOUNG), (40.0, 5.0), (119.0, 14.875)])
def test_a_young_pod_that_others_have_heard_of_is_as_young_as_it_is(age: float, pause: float) -> None:
    plan = young_rota()
    plan.want(KEY, running(), 100.0, age=age)
    assert next_due(plan, 100.0) == 100.0
    answer(plan, 100.0, step=1)
    assert next_due(plan, 100.0) == pytest.approx(100.0 + pause)


def test_answers_of_a_pod_lie_at_least_an_interval_apart_also_when_one_was_slow() -> None:
    plan = rota()
    plan.want(KEY, running(), 0.0)
    entry = plan.take(0.0)
    assert entry is not None
    assert plan.finish(entry, Progress(step=1), 1.9)
    assert next_due(plan, 1.9) == pytest.approx(1.9 + INTERVAL)


def test_only_an_answer_that_differs_is_news() -> None:
    plan = rota()
    plan.want(KEY, running(), 0.0)
    assert answer(plan, 0.0, 7) is True
    assert answer(plan, 15.0, 7) is False
    assert answer(plan, 30.0, None) is False, "silence takes nothing back"
    assert plan.want(KEY, running(), 30.0)[0].answer == Progress(step=7)
    assert answer(plan, 45.0, 8) is True


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, 15.0), (2, 15.0), (3, 30.0), (4, 60.0), (5, 120.0), (6, 120.0), (1000, 120.0)]
)
def test_a_pod_that_does_not_answer_is_asked_less_often(failures: int, pause: float) -> None:
    plan, now = rota(), 0.0
    plan.want(KEY, running(), now)
    for _ in range(failures):
        now = next_due(plan, now)
        plan.want(KEY, running(), now)
        answer(plan, now, None)
    assert next_due(plan, now) - now == pytest.approx(pause)


def test_one_answer_makes_up_for_all_failures() -> None:
    plan, now = rota(), 0.0
    plan.want(KEY, running(), now)
    for step in (None, None, None, None, 3):
        now = next_due(plan, now)
        answer(plan, now, step)
    assert next_due(plan, now) - now == INTERVAL


def test_a_thousand_pods_that_are_met_at_once_are_spread_evenly() -> None:
    numbers = iter([(each * 0.618034) % 1 for each in range(10_000)])
    plan, now = rota(lambda: next(numbers)), 0.0
    asked: list[float] = []
    for key in keys(1000):
        plan.want(key, running(), now)
    while now < 120.0:
        now = next_due(plan, now)
        while answer(plan, now, 1) is not None:
            asked.append(now)
    per_second = [sum(second <= each < second + 1 for each in asked) for second in range(60, 105)]
    assert max(per_second) <= 1.5 * 1000 / INTERVAL
    assert min(per_second) >= 0.5 * 1000 / INTERVAL


def test_pods_that_hang_take_no_place_from_those_that_answer() -> None:
    plan = rota()
    plan.want(KEY, running(), 0.0)
    answer(plan, 0.0, 1)
    for key in keys(1000):
        plan.want(key, running(), 0.0)
    hanging = 0
    while plan.take(1.0) is not None:
        hanging += 1
    assert hanging == 24
    assert next_due(plan, 1.0) == INTERVAL, "it does not spin on those that find no place"
    entry = plan.take(INTERVAL)
    assert entry is not None
    assert entry.key == KEY


def test_no_more_are_asked_at_once_than_there_are_places() -> None:
    plan = rota()
    for key in keys(100):
        plan.want(key, running(), 0.0)
    while answer(plan, 0.0, 1) is not None:
        pass
    for key in keys(200)[100:]:
        plan.want(key, running(), INTERVAL)
    taken = 0
    while plan.take(INTERVAL) is not None:
        taken += 1
    assert taken == PLACES
    assert plan.wait(INTERVAL) is None


def test_what_no_pass_asks_for_is_forgotten() -> None:
    plan = rota(forget_after=100.0)
    for key in keys(50):
        plan.want(key, running(), 0.0)
    while answer(plan, 0.0, 1) is not None:
        pass
    plan.want(KEY, running(), 95.0)
    assert plan.take(101.0) is not None, "the one that is wanted"
    assert plan.take(101.0) is None
    assert len(plan) == 1


def test_a_job_that_has_ended_is_forgotten_while_its_pod_is_asked() -> None:
    plan = rota()
    plan.want(KEY, running(), 0.0)
    entry = plan.take(0.0)
    assert entry is not None
    plan.forget(KEY)
    assert plan.finish(entry, Progress(step=1), 1.0) is False
    assert (len(plan), plan.wait(1.0)) == (0, None)


def test_another_pod_of_a_job_begins_anew_and_the_answer_of_the_old_one_is_no_news() -> None:
    plan = rota()
    plan.want(KEY, running(1), 0.0)
    entry = plan.take(0.0)
    assert entry is not None
    fresh, new = plan.want(KEY, running(2), 1.0)
    assert (new, fresh.answer) == (True, None)
    assert plan.finish(entry, Progress(step=99), 1.5) is False
    taken = plan.take(3.0)
    assert taken is not None
    assert taken.pod.uid == "pod-2"


def test_a_pod_is_asked_at_its_newest_address() -> None:
    plan = rota()
    plan.want(KEY, running(), 0.0)
    plan.want(KEY, replace(running(), ip="10.0.0.9"), 0.5)
    entry = plan.take(2.0)
    assert entry is not None
    assert entry.pod.ip == "10.0.0.9"


def pauses(plan: Rota, now: float, steps: list[int | None], *, eager: bool) -> list[float]:
    """Let a pod answer, or not, each time it is due. Returns the seconds between its answers."""
    found: list[float] = []
    for step in steps:
        plan.want(KEY, running(), now, eager=eager)
        due = next_due(plan, now)
        answer(plan, due, step)
        found.append(round(due - now, 3))
        now = due
    return found


def test_a_pod_that_somebody_waits_for_is_asked_often() -> None:
    assert pauses(eager_rota(), 0.0, [1, 2, 3, 4], eager=True) == [0.0, SOON, SOON, SOON]


def test_it_is_asked_often_for_half_a_minute_and_then_at_rest_again() -> None:
    plan, now, times = eager_rota(), 0.0, []
    plan.want(KEY, running(), now, eager=True)
    while now < 60.0:
        answer(plan, now, 1)
        times.append(now)
        now = next_due(plan, now)
    assert times[:3] == [0.0, SOON, 2 * SOON]
    assert times[-2:] == [30.5, 45.5]


def test_a_pass_that_does_not_wait_for_a_pod_takes_nothing_back_from_one_that_does() -> None:
    plan = eager_rota()
    plan.want(KEY, running(), 0.0, eager=True)
    plan.want(KEY, running(), 0.1, eager=False)
    answer(plan, 0.1, 1)
    assert next_due(plan, 0.1) == pytest.approx(0.1 + SOON)


def test_a_resting_pod_is_asked_at_once_when_somebody_begins_to_wait_and_only_once() -> None:
    plan = eager_rota(lambda: 1.0)
    plan.want(KEY, running(), 0.0)
    answer(plan, 2.0, 1)
    assert next_due(plan, 3.0) == 2.0 + 2 * INTERVAL
    assert plan.want(KEY, running(), 3.0, eager=True)[1] is True, "whoever sleeps until it is due has to wake"
    assert next_due(plan, 3.0) == 3.0 + SOON
    assert answer(plan, 3.5, 1) is False
    assert answer(plan, 3.5, 1) is None, "its older place does not count any more"


def test_looking_at_a_pod_again_and_again_does_not_make_it_due() -> None:
    plan = eager_rota()
    plan.want(KEY, running(), 0.0, eager=True)
    answer(plan, 0.0, 1)
    for number in range(100):
        assert plan.want(KEY, running(), 0.004 * number, eager=True)[1] is False
    assert next_due(plan, 0.4) == SOON


def test_a_pod_that_does_not_answer_is_asked_less_often_also_when_somebody_waits_but_never_less_than_at_rest() -> None:
    found = pauses(eager_rota(), 0.0, [None] * 12, eager=True)
    assert found == [0.0, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0]


def test_a_pod_that_hung_for_long_is_asked_within_an_interval_when_somebody_begins_to_wait() -> None:
    plan = eager_rota(lambda: 0.5)
    now = 0.0
    plan.want(KEY, running(), now)
    for _ in range(8):
        now = next_due(plan, now)
        plan.want(KEY, running(), now)
        answer(plan, now, None)
    assert next_due(plan, now) == now + 120.0
    plan.want(KEY, running(), now + 1.0, eager=True)
    assert next_due(plan, now) == now + 1.0 + INTERVAL / 2


def test_since_when_a_pod_is_silent() -> None:
    plan = rota()
    entry, _ = plan.want(KEY, running(), 0.0)
    assert entry.silent_since is None, "it was not asked yet"
    plan.take(0.0)
    plan.finish(entry, None, 2.0)
    assert entry.silent_since == 0.0, "it was asked then"
    answer(plan, 17.0, None)
    assert entry.silent_since == 0.0
    answer(plan, 32.0, 1)
    assert entry.silent_since is None


def test_what_is_known_of_a_pod_can_be_looked_at_without_asking_for_it() -> None:
    plan = rota()
    plan.want(KEY, running(), 0.0)
    assert plan.last(KEY, "pod-1") is not None
    assert plan.last(KEY, "pod-2") is None, "another pod of the same key"
    assert plan.last(PodKey("team-a", "other"), "pod-1") is None


@pytest.mark.parametrize(
    ("age", "young", "pause"),
    [
        pytest.param(0.0, 1, 2.0, id="new"),
        pytest.param(16.0, 1, 2.0, id="an eighth of its age from here on"),
        pytest.param(40.0, 1, 5.0, id="an eighth of its age"),
        pytest.param(120.0, 1, 15.0, id="no longer young"),
        pytest.param(7200.0, 1, 15.0, id="old"),
        pytest.param(0.0, 50, 2.0, id="as many as there may be"),
        pytest.param(0.0, 51, 15.0, id="too many"),
        pytest.param(7200.0, 51, 15.0, id="old among too many"),
    ],
)
def test_the_pause_grows_with_the_age_of_a_pod(age: float, young: int, pause: float) -> None:
    assert young_pause(age, young, first=YOUNG, rest=INTERVAL) == pause


def test_an_interval_that_is_shorter_than_that_of_the_young_holds_for_all() -> None:
    assert young_pause(0.0, 1, first=2.0, rest=0.5) == 0.5


def asked_until(plan: Rota, pods: list[PodKey], end: float, *, answers: bool = True) -> list[float]:
    """Meet pods at once, and let them answer, or not, until `end`. Returns when they were asked."""
    now, asked = 0.0, []
    for key in pods:
        plan.want(key, running(), now)
    while (now := next_due(plan, now)) <= end:
        while answer(plan, now, len(asked) if answers else None) is not None:
            asked.append(now)
    return asked


def test_a_young_pod_is_asked_often_and_then_less_and_less() -> None:
    asked = asked_until(young_rota(), [KEY], 180.0)
    pauses = [round(after - before, 2) for before, after in pairwise(asked)]
    assert pauses[:9] == [2.0] * 9
    assert pauses == sorted(pauses)
    assert pauses[-3:] == [15.0] * 3
    first_minutes = [each for each in asked if each < 120.0]
    assert len(first_minutes) - 120.0 / INTERVAL == pytest.approx(18), "so many more than at rest, once in its life"


def test_another_pod_of_a_job_is_young_again() -> None:
    plan = young_rota()
    asked_until(plan, [KEY], 600.0)
    plan.want(KEY, running(2), 700.0)
    answer(plan, 700.0, 1)
    assert next_due(plan, 700.0) == 702.0


@pytest.mark.parametrize("answers", [True, False], ids=["they answer", "nobody answers"])
def test_a_thousand_pods_at_once_are_no_more_work_than_without_a_rule_for_the_young(answers: bool) -> None:
    with_rule = asked_until(young_rota(lambda: 0.5), keys(1000), 150.0, answers=answers)
    without = asked_until(rota(lambda: 0.5), keys(1000), 150.0, answers=answers)
    assert len(with_rule) - len(without) <= 2 * MOST_YOUNG


def test_one_pod_more_than_may_be_young_and_all_are_at_rest_until_the_first_are_old() -> None:
    plan = young_rota()
    asked_until(plan, keys(MOST_YOUNG + 1), 100.0)
    plan.want(KEY, running(2), 100.0)
    answer(plan, 100.0, 1)
    entry = plan.last(KEY, "pod-2")
    assert entry is not None
    assert entry.due == 115.0
    asked_until(plan, [], 230.0)
    later = PodKey("team-a", "later")
    plan.want(later, running(3), 230.0)
    answer(plan, 230.0, 1)
    entry = plan.last(later, "pod-3")
    assert entry is not None
    assert entry.due == 232.0


def test_a_young_pod_that_does_not_answer_is_asked_at_least_as_often_as_at_rest() -> None:
    young, old = (
        asked_until(young_rota(), [KEY], 300.0, answers=False),
        asked_until(rota(), [KEY], 300.0, answers=False),
    )
    assert young[:6] == [0.0, 2.0, 4.0, 8.0, 16.0, 31.0]
    assert max(after - before for before, after in pairwise(each for each in young if each < 120.0)) == INTERVAL
    assert len(young) <= len(old) + 8
