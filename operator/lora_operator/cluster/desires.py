"""Tells pods what to serve: writes the annotation that their agents read, and writes few times.

What several passes want of one pod at about the same time becomes one request. Each request names what it replaces, so
two operators, or one that saw an old pod, never undo each other. It goes through `pods/status`, so that the operator
needs no right to change what a pod runs. Which pod serves what is decided elsewhere.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lora_api.delivery import DesiredAdapter
from lora_api.names import DESIRED_ANNOTATION
from lora_operator.cluster.client import PODS, ApiError, ChangedError, Client
from lora_operator.cluster.inference import InferencePods
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.inference import InferencePod, TooMuchError, with_entries
from lora_operator.domain.observed import Document

Changes = Mapping[str, DesiredAdapter | None]

_QUIET = 0.1
"""Seconds without another wish for the same pod after which what there is gets written."""
_LONGEST = 1.0
"""Seconds after which it is written in any case. At a start the passes of all adapters fit into it."""
_ATTEMPTS = 3
_CONFLICT, _TOO_MUCH = 409, 413


class _PodId(NamedTuple):
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Wish:
    changes: Changes
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Desk:
    """What is wanted of one pod, and who writes it."""

    pod: InferencePod
    wishes: list[_Wish] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.Task[None] | None = None


class DesireWriter:
    """Writes what pods are to serve."""

    def __init__(
        self, client: Client, pods: InferencePods, *, quiet: float = _QUIET, longest: float = _LONGEST
    ) -> None:
        """Write by `client`; what is written is in `pods` at once.

        A write waits until nobody has wanted anything of its pod for `quiet` seconds, at most `longest`.
        """
        self._client = client
        self._pods = pods
        self._quiet = quiet
        self._longest = longest
        self._desks: dict[_PodId, _Desk] = {}
        self._closed = False

    def submit(self, pod: InferencePod, changes: Changes) -> asyncio.Future[None]:
        """Put entries into what a pod is told, by the name of their LoRAAdapter, or with None take them out.

        Returns at once what can be waited for: a worker that waits is not free for the next wish, and so bounds what
        one request can carry. A pod that is gone is told nothing, and that is no error. It ends with `RefusedError` if
        the pod cannot be told so much, or with what the client raises. A failure nobody asks about is dropped, and the
        next pass finds that the pod lacks its entry.
        """
        key = _PodId(pod.namespace, pod.name, pod.uid)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_seen)
        if self._closed:
            done.set_exception(_ending())
            return done
        desk = self._desks.setdefault(key, _Desk(pod))
        desk.wishes.append(_Wish(dict(changes), done))
        desk.more.set()
        if desk.writer is None:
            desk.writer = asyncio.create_task(self._serve(key, desk), name=f"desires of {pod.namespace}/{pod.name}")
        return done

    async def close(self) -> None:
        """Write nothing more. Those who wait are told so."""
        self._closed = True
        writers = [desk.writer for desk in self._desks.values() if desk.writer is not None]
        for each in writers:
            each.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        for desk in self._desks.values():  # whose writer had not begun
            _fail(desk.wishes, _ending())
        self._desks.clear()

    async def _serve(self, key: _PodId, desk: _Desk) -> None:
        """Write until nothing is wanted of a pod any more."""
        wishes: list[_Wish] = []
        try:
            while desk.wishes:
                await self._gather(desk)
                wishes, desk.wishes = desk.wishes, []
                await self._grant(desk.pod, wishes)
        finally:
            del self._desks[key]
            _fail([*wishes, *desk.wishes], _ending())

    async def _gather(self, desk: _Desk) -> None:
        """Wait until nobody wants anything more of a pod for a moment."""
        try:
            async with asyncio.timeout(self._longest):
                while desk.more.is_set():
                    desk.more.clear()
                    await _wait_briefly(desk.more, self._quiet)
        except TimeoutError:
            desk.more.clear()

    async def _grant(self, pod: InferencePod, wishes: list[_Wish]) -> None:
        """Write all wishes at once. Whatever goes wrong is told to those who wished.

        What the server refuses as a whole it may take in part, so that nobody is refused for another's wish.
        """
        try:
            await self._write(pod, wishes)
        except RefusedError as error:
            if len(_open(wishes)) > 1:
                for each in sorted(_open(wishes), key=_adds):
                    await self._grant(pod, [each])
            _fail(wishes, error)
        except Exception as error:  # raised where it is waited for
            _fail(wishes, error)
        for each in wishes:
            if not each.done.done():
                each.done.set_result(None)

    async def _write(self, pod: InferencePod, wishes: list[_Wish]) -> None:
        text = self._text_of(pod)
        for _ in range(_ATTEMPTS):
            after = _next_text(pod, text, wishes)
            if after == text or after is None:
                return
            try:
                document = await self._client.set_annotation(
                    PODS, pod.namespace, pod.name, pod.uid, DESIRED_ANNOTATION, text, after
                )
            except ChangedError as error:
                document = await self._reread(pod)
                if document is None:
                    return
                now = _annotation(document)
                if error.invalid and now == text:  # so it is not the test that failed
                    raise _refused(pod, error.message) from error
                text = now
            else:
                self._learn(document)
                return
        raise ApiError(_CONFLICT, f"what pod {pod.name} is told was changed by others {_ATTEMPTS} times meanwhile")

    def _text_of(self, pod: InferencePod) -> str | None:
        """Return the annotation as it is known now. The one of a caller may be older than his wish."""
        known = self._pods.get(pod.namespace, pod.name)
        return (known if known is not None and known.uid == pod.uid else pod).desired_text

    async def _reread(self, pod: InferencePod) -> Document | None:
        """Return the pod as it is now, None if it is gone."""
        document = await self._client.get(PODS, pod.namespace, pod.name)
        if document is None or document["metadata"].get("uid") != pod.uid:
            return None
        self._learn(document)
        return document

    def _learn(self, document: Document | None) -> None:
        if document is not None:
            self._pods.learn(document)


def _next_text(pod: InferencePod, text: str | None, wishes: list[_Wish]) -> str | None:
    """Return the annotation with all wishes in it that are still open. The ones that do not fit in are refused."""
    try:
        return with_entries(text, {name: entry for each in _open(wishes) for name, entry in each.changes.items()})
    except TooMuchError:
        pass
    after = text
    for each in sorted(_open(wishes), key=_adds):
        try:
            after = with_entries(after, each.changes)
        except TooMuchError as error:
            each.done.set_exception(_refused(pod, str(error)))
    return after


def _open(wishes: list[_Wish]) -> list[_Wish]:
    return [each for each in wishes if not each.done.done()]


def _adds(wish: _Wish) -> bool:
    """Return whether a wish adds anything: the others make room, and go first."""
    return any(entry is not None for entry in wish.changes.values())


def _annotation(document: Document) -> str | None:
    found: str | None = (document["metadata"].get("annotations") or {}).get(DESIRED_ANNOTATION)
    return found


def _refused(pod: InferencePod, message: str) -> RefusedError:
    return RefusedError(status=_TOO_MUCH, subject=f"Annotation {DESIRED_ANNOTATION} of pod {pod.name}", message=message)


def _ending() -> ApiError:
    return ApiError(0, "not written: this operator is ending")


def _fail(wishes: list[_Wish], error: Exception) -> None:
    for each in wishes:
        if not each.done.done():
            each.done.set_exception(error)


def _seen(done: asyncio.Future[None]) -> None:
    """Look at a failure, so that one nobody waits for is not reported as forgotten."""
    if not done.cancelled():
        done.exception()


async def _wait_briefly(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
