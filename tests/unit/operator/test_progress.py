"""The poll of training pods: at most once an interval a pod, and never an error."""

import asyncio
import json

import aiohttp
import pytest

from lora_operator.cluster.progress import ProgressReader
from lora_operator.domain.observed import PodView
from support.world import pod, running


class Pods:
    """Trainer pods that answer what a test says."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, namespace: str, pod: PodView) -> str:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def reader(pods: Pods, now: list[float]) -> ProgressReader:
    return ProgressReader(pods, 15.0, clock=lambda: now[0])


def test_a_pod_is_asked_once_an_interval() -> None:
    pods, now = Pods(json.dumps({"step": 1}), json.dumps({"step": 2})), [0.0]
    asked = reader(pods, now)

    async def scenario() -> None:
        for _ in range(3):
            progress = await asked.read("team-a", running())
            assert progress is not None
            assert progress.step == 1
        now[0] = 15.0
        progress = await asked.read("team-a", running())
        assert progress is not None
        assert progress.step == 2

    asyncio.run(scenario())
    assert pods.asked == 2


@pytest.mark.parametrize(
    "answer",
    [aiohttp.ClientConnectionError(), TimeoutError(), OSError(), "<html>", "[]", '{"step": "many"}'],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else each,
)
def test_what_goes_wrong_leaves_the_last_known_progress(answer: str | Exception) -> None:
    now = [0.0]
    asked = reader(Pods(answer, json.dumps({"step": 7}), answer), now)

    async def scenario() -> list[int | None]:
        seen = []
        for now[0] in (0.0, 15.0, 30.0):
            progress = await asked.read("team-a", running())
            seen.append(progress.step if progress else None)
        return seen

    assert asyncio.run(scenario()) == [None, 7, 7]


def test_a_loss_that_is_no_number_is_left_out() -> None:
    asked = reader(Pods('{"step": 3, "loss": NaN, "percent": 2.5}'), [0.0])
    progress = asyncio.run(asked.read("team-a", running()))
    assert progress is not None
    assert (progress.step, progress.loss, progress.percent) == (3, None, 2.5)


def test_pods_that_are_gone_are_forgotten() -> None:
    pods, now = Pods(*[json.dumps({"step": 1})] * 3), [0.0]
    asked = reader(pods, now)

    async def scenario() -> None:
        await asked.read("team-a", pod(1))
        now[0] = 10_000.0
        await asked.read("team-a", pod(2))

    asyncio.run(scenario())
    assert list(asked._known) == ["pod-2"]
