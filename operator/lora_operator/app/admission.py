"""The webhook's answers: an AdmissionReview in, an AdmissionReview out. No server and no client of its own.

Whatever arrives is answered. What cannot be decided is a refusal with a short sentence: a labelled pod that started
without its adapters would answer as its base model, and nobody would notice.
"""

import asyncio
import base64
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from lora_api.delivery import Desired
from lora_operator.domain.engines import InjectionRefusedError
from lora_operator.domain.injection import Injection, InjectionSettings, inject, is_wanted, named_adapters

Document = dict[str, Any]
ReadAdapters = Callable[[str, Sequence[str]], Awaitable[list[Document]]]
"""Namespace and names to those LoRAAdapters that exist."""
EntriesOf = Callable[[Sequence[Document], Sequence[str]], Desired]
"""LoRAAdapters and the names that a pod asks for to what it is to serve from its start. Pure."""

_LOG = logging.getLogger(__name__)
API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
READ_SECONDS: Final = 3.5
"""Limit for the one read; the API server waits for 5 s."""
_PARALLEL: Final = 32
"""Reviews at the same time; the rest wait, and the API server asks again."""
_WARNING_LENGTH: Final = 250
"""The API server cuts warnings at 256 characters, or drops them."""


class Admission(StrEnum):
    """What became of a request, for the metrics."""

    INJECTED = "injected"
    UNCHANGED = "unchanged"
    """It asks for nothing, or has all that it asks for."""
    REFUSED = "refused"
    """Its author has to change it."""
    ERROR = "error"
    """It could not be judged, and has to come again."""


Observer = Callable[[Admission, float], None]
"""Told what became of each request, and after how many seconds."""


class NotAReviewError(Exception):
    """The body of a request is no AdmissionReview that can be answered."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: HTTPStatus
    message: str


class Reviewer:
    """Answers what the API server asks about new pods."""

    def __init__(
        self,
        read_adapters: ReadAdapters,
        entries_of: EntriesOf,
        settings: InjectionSettings,
        namespaces: Sequence[str] = (),
        read_seconds: float = READ_SECONDS,
        observer: Observer = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`namespaces` are those that are served; none means all."""
        self._read_adapters = read_adapters
        self._entries_of = entries_of
        self._settings = settings
        self._namespaces = frozenset(namespaces)
        self._read_seconds = read_seconds
        self._observer = observer
        self._clock = clock
        self._places = asyncio.Semaphore(_PARALLEL)

    async def answer(self, body: bytes) -> Document:
        """Return the AdmissionReview that answers another one. Raises `NotAReviewError`, and nothing else."""
        began, admission = self._clock(), Admission.ERROR
        try:
            admission, answer = await self._judge(read_request(body))
            return answer
        finally:
            self._observer(admission, self._clock() - began)

    async def _judge(self, request: Document) -> tuple[Admission, Document]:
        try:
            injection = await self._decide(request)
            return Admission.INJECTED if injection.patch else Admission.UNCHANGED, _allowed(request, injection)
        except InjectionRefusedError as refused:
            _LOG.info("A pod in %s is refused: %s", request.get("namespace"), refused)
            return Admission.REFUSED, _refused(request, _Refusal(HTTPStatus.FORBIDDEN, str(refused)))
        except _UnreadableError as error:
            _LOG.warning("A pod in %s is refused: %s", request.get("namespace"), error)
            return Admission.ERROR, _refused(request, _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))
        except Exception as error:
            # Of the error only type and place: its text could hold a value of the pod.
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("A pod could not be reviewed: %s\n%s", type(error).__name__, where)
            message = f"lora-operator could not prepare the pod ({type(error).__name__}); see the log of the operator"
            return Admission.ERROR, _refused(request, _Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, message))

    async def _decide(self, request: Document) -> Injection:
        pod = request.get("object")
        if not _is_about_a_new_pod(request) or not isinstance(pod, dict) or not is_wanted(pod) or not _is_sound(pod):
            return Injection([])
        namespace = str(request.get("namespace") or "")
        if self._namespaces and namespace not in self._namespaces:
            raise InjectionRefusedError(
                f"the lora-operator of this cluster does not serve namespace {namespace}: take the label away, or let"
                " it be served"
            )
        names = named_adapters(pod)
        adapters = await self._read(namespace, names)
        injection = inject(pod, adapters, self._entries_of(adapters, names), self._settings)
        _LOG.info("A pod in %s gets the agent for %s", namespace, ", ".join(names))
        return injection

    async def _read(self, namespace: str, names: Sequence[str]) -> list[Document]:
        try:
            async with asyncio.timeout(self._read_seconds), self._places:
                return await self._read_adapters(namespace, names)
        except Exception as error:
            raise _UnreadableError(
                f"lora-operator could not read the LoRAAdapters of namespace {namespace}"
                f" ({str(error) or type(error).__name__}): try again"
            ) from error


class _UnreadableError(Exception):
    """The LoRAAdapters could not be read now."""


def read_request(body: bytes) -> Document:
    """Return the request of an AdmissionReview. Raises `NotAReviewError`."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAReviewError("the body is no JSON") from None
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (API_VERSION, KIND):
        raise NotAReviewError(f"the body is no {KIND} of {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise NotAReviewError(f"the {KIND} has no request with a uid")
    return request


def _is_about_a_new_pod(request: Document) -> bool:
    resource = request.get("resource") or {}
    is_pod = (resource.get("group") or "", resource.get("resource")) == ("", "pods")
    return is_pod and request.get("operation") == "CREATE" and not request.get("subResource")


def _is_sound(pod: Document) -> bool:
    """Return whether a pod has what the API server is going to insist on; else it is left to its words."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    mounts = [mount for each in containers for mount in each.get("volumeMounts") or []]
    named = [*containers, *mounts, *(spec.get("volumes") or [])]
    return bool(spec.get("containers")) and all(each.get("name") for each in named)


def _allowed(request: Document, injection: Injection) -> Document:
    response: Document = {"uid": request["uid"], "allowed": True}
    if injection.patch:
        patch = json.dumps(injection.patch).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if injection.notes:
        response["warnings"] = [f"{each.reason}: {each.message}"[:_WARNING_LENGTH] for each in injection.notes]
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def _refused(request: Document, refusal: _Refusal) -> Document:
    status = {"code": int(refusal.status), "message": refusal.message}
    response = {"uid": request["uid"], "allowed": False, "status": status}
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}
