"""Logs of several pods as one stream: from pod to pod, and on after a connection that broke, without a line twice.

The API server puts the time before each line; the last one seen is where the next request goes on.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from lora_api.names import TRAINER_CONTAINER
from lora_cli.cluster.connection import Document, LogNotReadyError

_ENDED = ("Succeeded", "Failed")


class ReadLog(Protocol):
    """`Cluster.log`."""

    def __call__(self, pod: Document, container: str, *, follow: bool = False, **query: str) -> Iterator[str]:
        """Yield the lines of a log."""


def pod_lines(pods: list[Document], read: ReadLog, say: Callable[[str], Any]) -> Iterator[str]:
    """Yield the lines of pods that are there, the oldest first."""
    for pod in _ordered(pods):
        try:
            yield from read(pod, TRAINER_CONTAINER)
        except LogNotReadyError as error:
            say(str(error))


def follow_pods(
    pods: Callable[[], list[Document]],
    read: ReadLog,
    goes_on: Callable[[], bool],
    pause: Callable[[], None],
    say: Callable[[str], Any],
) -> Iterator[str]:
    """Yield the lines of all pods of a run, also of those that are still to come, until the run has ended."""
    seen: dict[str, _Position] = {}
    while True:
        more = goes_on()  # before the pods: what ends in between is read once more
        for pod in _ordered(pods()):
            position = seen.setdefault(pod["metadata"]["uid"], _Position(pod["metadata"]["name"]))
            if not position.complete:
                yield from position.read(pod, read, say)
        if not more:
            return
        pause()


class _Position:
    """How far the log of one pod has been read."""

    def __init__(self, name: str) -> None:
        self._name, self._last = name, ""
        self._told: set[str] = set()
        self.complete = False

    def read(self, pod: Document, read: ReadLog, say: Callable[[str], Any]) -> Iterator[str]:
        """Yield the lines that are new."""
        query = {"timestamps": "true"} | ({"sinceTime": self._last} if self._last else {})
        ended = (pod.get("status") or {}).get("phase") in _ENDED
        self._tell(f"pod {self._name}:", say)
        known = self._last
        try:
            for line in read(pod, TRAINER_CONTAINER, follow=not ended, **query):
                time, _, text = line.partition(" ")
                if time > known:  # sinceTime counts whole seconds, so some come again
                    self._last = time
                    yield text
            self.complete = ended
        except LogNotReadyError as error:
            self.complete = ended
            self._tell(str(error), say)

    def _tell(self, text: str, say: Callable[[str], Any]) -> None:
        if text not in self._told:
            say(text)
        self._told.add(text)


def _ordered(pods: list[Document]) -> list[Document]:
    return sorted(pods, key=lambda each: (each["metadata"].get("creationTimestamp") or "", each["metadata"]["name"]))
