"""Asks training pods how far they are, in the background: `GET /progress` at the pod's address.

An answer that differs from the one before wakes the job.
"""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from lora_api.messages import Progress
from lora_operator.cluster.fetch import Fetch
from lora_operator.cluster.poller import FORGET_AFTER, Known, Poller
from lora_operator.cluster.rota import Entry, PodKey
from lora_operator.domain.numbers import load_finite
from lora_operator.domain.observed import PodView

YOUNG_INTERVAL = 2.0
"""Seconds between two questions to a pod that is new: a small job on a fast machine trains for ten."""


class ProgressReader:
    """Knows what running pods said last."""

    def __init__(
        self,
        fetch: Fetch[PodView],
        interval: float,
        on_news: Callable[[str, str], None],
        *,
        young_interval: float = YOUNG_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
        forget_after: float = FORGET_AFTER,
        observer: Callable[[bool], None] = lambda answered: None,
    ) -> None:
        """Ask by `fetch`, each pod every `interval` seconds, and a young one more often, from `young_interval` on.

        `on_news` gets namespace and name of a job whose pod said something new: at most once a question for each job,
        which so bounds its status writes as well. `observer` hears of every question whether it was answered.
        """
        self._on_news = on_news
        self._now = now
        self._poller: Poller[PodKey, PodView, Progress] = Poller(
            fetch,
            _read_progress,
            self._heard,
            namespace_of=lambda key: key.namespace,
            interval=interval,
            young_interval=young_interval,
            clock=clock,
            chance=chance,
            forget_after=forget_after,
            observer=observer,
        )

    @property
    def pods(self) -> int:
        """Pods that are asked."""
        return len(self._poller)

    def read(self, namespace: str, job: str, pod: PodView) -> Progress | None:
        """Return at once what the running pod of a job said last, None if nothing yet, and keep asking it."""
        return self._poller.read(PodKey(namespace, job), pod, age=self._age(pod)).answer

    def _age(self, pod: PodView) -> float | None:
        """Return the seconds for which a pod runs by its node's clock; a clock that is ahead makes it a new one."""
        if not pod.started:
            return None
        return max(0.0, (self._now() - datetime.fromisoformat(pod.started)).total_seconds())

    def forget(self, namespace: str, job: str) -> None:
        """Ask the pod of a job no more: it has ended, or the job is gone."""
        self._poller.forget(PodKey(namespace, job))

    async def run(self) -> None:
        """Ask for ever."""
        await self._poller.run()

    def _heard(self, entry: Entry[PodKey, PodView, Progress], before: Known[Progress], after: Known[Progress]) -> None:
        """Wake the job for what its pod said. That it says nothing takes nothing back."""
        if after.answer != before.answer:
            self._on_news(*entry.key)


def _read_progress(pod: PodView, text: str, before: Progress | None) -> Progress:
    return Progress.model_validate(load_finite(text))
