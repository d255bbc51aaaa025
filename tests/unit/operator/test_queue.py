"""The work queue: one pass for many events, one worker a key, growing delays, and an end in order."""

import asyncio

from lora_operator.reconcile.queue import Backoff, Outcome, WorkQueue


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, chance: float = 1.0, **options: object) -> WorkQueue[str]:
    return WorkQueue(clock=clock, chance=lambda: chance, **options)  # type: ignore[arg-type]


def test_many_events_make_one_pass() -> None:
    queue = make(Clock())
    for _ in range(3):
        queue.add("a")
    assert queue.depth == 1
    assert queue.take() == "a"
    assert queue.take() is None


def test_keys_come_in_the_order_of_their_arrival() -> None:
    queue = make(Clock())
    for key in "bca":
        queue.add(key)
    assert [queue.take(), queue.take(), queue.take()] == ["b", "c", "a"]


def test_what_is_asked_for_goes_before_what_was_put_off_and_cannot_keep_it_waiting_for_ever() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add_after("put off", 1)
    clock.now += 1
    for number in range(40):
        queue.add(f"new-{number:02d}")
    order = [queue.take() for _ in range(41)]
    assert order.index("put off") == 16
    assert [each for each in order if each != "put off"] == [f"new-{number:02d}" for number in range(40)]


def test_what_was_put_off_and_is_asked_for_goes_with_the_others() -> None:
    clock = Clock()
    queue = make(clock)
    for key in "ab":
        queue.add_after(key, 1)
    clock.now += 1
    queue.add("c")
    assert queue.take() == "c"
    queue.add("b")
    assert queue.depth == 2
    assert [queue.take(), queue.take(), queue.take()] == ["b", "a", None]


def test_a_key_that_is_worked_on_is_given_to_nobody_else_and_comes_again_afterwards() -> None:
    queue = make(Clock())
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    assert queue.take() is None, "single flight"
    queue.finish("a")
    assert queue.take() == "a", "what happened meanwhile is not lost"


def test_of_several_delays_the_earliest_counts() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add_after("a", 30)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    clock.now += 9.9
    assert queue.take() is None
    clock.now += 0.1
    assert queue.take() == "a"
    queue.finish("a")
    clock.now += 60
    assert queue.take() is None, "the later ones are gone"


def test_a_pass_that_wants_another_one_at_once_gets_it() -> None:
    queue = make(Clock())
    queue.add("a")
    queue.take()
    queue.finish("a", requeue_after=0)
    assert queue.take() == "a"


def test_a_burst_of_delayed_events_makes_one_pass_and_one_during_the_pass_makes_another() -> None:
    clock = Clock()
    queue = make(clock)
    for _ in range(5):
        queue.add_after("a", 0.1)
        clock.now += 0.01
    clock.now += 0.1
    assert queue.take() == "a"
    queue.add_after("a", 0.1)
    queue.finish("a", requeue_after=60)
    clock.now += 0.1
    assert queue.take() == "a"
    queue.finish("a")
    assert queue.take() is None


def test_an_early_pass_says_anew_when_the_next_is_due() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add_after("a", 10)
    queue.add("a")
    assert queue.take() == "a"
    queue.finish("a", requeue_after=50)
    clock.now += 10
    assert queue.take() is None
    clock.now += 40
    assert queue.take() == "a"


def test_failures_come_back_slower_and_slower_and_success_forgets_them() -> None:
    clock = Clock()
    queue = make(clock, backoff=Backoff(first=1, longest=5))
    for expected in (1, 2, 4, 5, 5):
        queue.add("a") if expected == 1 else None
        assert queue.take() == "a"
        queue.finish("a", error=ValueError())
        clock.now += expected - 0.01
        assert queue.take() is None
        clock.now += 0.01
    assert queue.take() == "a"
    queue.finish("a")
    queue.add("a")
    queue.take()
    queue.finish("a", error=ValueError())
    clock.now += 1
    assert queue.take() == "a"


def test_jitter_takes_away_up_to_half() -> None:
    backoff = Backoff(first=2, longest=300)
    assert (backoff.delay(1, 0.0), backoff.delay(1, 1.0)) == (1.0, 2.0)
    assert backoff.delay(10_000, 1.0) == 300


def test_the_age_of_the_oldest_key_counts_waiting_and_work() -> None:
    clock = Clock()
    queue = make(clock)
    assert queue.oldest_age() == 0
    queue.add("a")
    clock.now += 5
    assert queue.oldest_age() == 5
    queue.take()
    clock.now += 7
    assert queue.oldest_age() == 7
    queue.add_after("b", 3600)
    queue.finish("a")
    assert queue.oldest_age() == 0, "a delayed key is not late"


def test_one_bad_key_does_not_stop_the_others() -> None:
    done: list[str] = []
    outcomes: list[tuple[str, bool]] = []

    def observe(key: str, outcome: Outcome) -> None:
        outcomes.append((key, outcome.error is None))

    async def handle(key: str) -> float | None:
        if key == "bad":
            raise ValueError(key)
        done.append(key)
        if len(done) == 3:
            queue.stop()
        return None

    async def scenario() -> None:
        for key in ("bad", "a", "b", "c"):
            queue.add(key)
        await asyncio.wait_for(queue.run(handle, workers=2), timeout=10)

    queue: WorkQueue[str] = WorkQueue(observer=observe)
    asyncio.run(scenario())
    assert done == ["a", "b", "c"]
    assert ("bad", False) in outcomes


def test_workers_finish_what_they_have_before_they_end() -> None:
    finished: list[str] = []

    async def scenario() -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def handle(key: str) -> float | None:
            started.set()
            await release.wait()
            finished.append(key)
            return None

        queue: WorkQueue[str] = WorkQueue()
        run = asyncio.create_task(queue.run(handle, workers=4))
        queue.add("a")
        await started.wait()
        queue.stop()
        queue.add("b")
        release.set()
        await asyncio.wait_for(run, timeout=10)

    asyncio.run(scenario())
    assert finished == ["a"]


def test_the_observer_hears_how_long_a_key_waited_and_how_long_it_took() -> None:
    clock = Clock()
    outcomes: list[Outcome] = []
    added: list[str] = []
    queue = make(clock, observer=lambda key, outcome: outcomes.append(outcome), added=added.append)
    queue.add("a")
    queue.add("a")
    clock.now += 2
    queue.take()
    clock.now += 3
    queue.finish("a")
    assert outcomes == [Outcome(error=None, seconds=3, waited=2)]
    assert added == ["a"]


def test_at_most_as_many_passes_at_once_as_there_are_workers() -> None:
    active, most = 0, 0

    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue()

        async def handle(key: int) -> float | None:
            nonlocal active, most
            active += 1
            most = max(most, active)
            await asyncio.sleep(0)
            active -= 1
            if key == 49:
                queue.stop()
            return None

        for key in range(50):
            queue.add(key)
        await asyncio.wait_for(queue.run(handle, workers=3), timeout=10)

    asyncio.run(scenario())
    assert most == 3
