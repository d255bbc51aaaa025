"""Driver of vLLM: adapters come and go by HTTP, and its list of models proves which files answer.

Each version has a path of its own, because vLLM's prefix cache tells versions apart by name and path; loading other
files from the same path would answer from stale entries. What the engine can do is tried and looked at, never taken
from a version number: releases differ in the error envelope, in the code of an unknown name and in `load_inplace`.
"""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lora_agent.drivers.base import EngineError, ErrorKind, Listing, Prompt
from lora_agent.drivers.client import (
    DEFAULT_LIMITS,
    Answer,
    EngineClient,
    Limits,
    kind_of_status,
    message_of,
    refusal,
    type_of,
)
from lora_agent.drivers.openai import completion, models, refuse_base_name, split

_DEAD: Final = ("EngineCore encountered", "EngineDeadError", "Engine loop has died")
"""The process lives on for a moment after its engine died, and says this to everybody."""
_NOT_ENABLED: Final = (
    "vLLM has no runtime loading of adapters: start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
)


class VllmDriver:
    """One vLLM server."""

    kind = "vllm"
    can_stage = True
    proves_path = True
    works_offline = False

    def __init__(
        self, client: EngineClient, limits: Limits = DEFAULT_LIMITS, salt: Callable[[], str] = lambda: uuid.uuid4().hex
    ) -> None:
        """`salt` gives another text at each call."""
        self._client = client
        self._limits = limits
        self._salt = salt
        self._version = ""
        self._bases: tuple[str, ...] = ()

    async def list(self) -> Listing:
        """Return models and version. The version is asked for again after the engine was away."""
        try:
            bases, adapters = split(await models(self._client, self._limits.listing))
            self._version = self._version or await self._ask_version()
        except EngineError:
            self._version = ""
            raise
        self._bases = bases
        return Listing(self._version, bases, adapters)

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        """Load under a free name, or in place of another path, which answers until the new one is in."""
        if replaces == str(path):
            return
        refuse_base_name(name, self._bases)  # some releases let an adapter hide the base
        if replaces is not None:
            await self._replace(name, path, replaces)
            return
        try:
            await self._order_load(name, str(path))
        except EngineError as error:
            if error.kind is not ErrorKind.ALREADY_LOADED or await self._shown(name) != str(path):
                raise

    async def unload(self, name: str, path: Path | None) -> None:
        """Unload; memory and slot stay with vLLM until another adapter needs them."""
        del path
        answer = await self._client.post("/v1/unload_lora_adapter", {"lora_name": name}, self._limits.load)
        if answer.ok:
            return
        unknown = answer.status == 404 and type_of(answer) == "NotFoundError"
        unknown_in_old = answer.status == 400 and "cannot be found" in message_of(answer)
        if not (unknown or unknown_in_old):
            raise _refusal(answer)

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        """Ask for one token. The keys are ids; texts, if a release ignores that wish."""
        del path
        if name is None and not self._bases:
            await self.list()
        model = name or next(iter(self._bases), "")
        return await completion(self._client, model, prompt, top, self._salt(), self._limits.generate)

    async def _replace(self, name: str, path: Path, old: str) -> None:
        try:
            await self._order_load(name, str(path), load_inplace=True)
        except EngineError as error:
            if not _knows_no_inplace(error):
                raise
        else:
            if await self._shown(name) == str(path):
                return
        # A release without load_inplace: for a moment the name answers to nobody, and clients get 404.
        await self.unload(name, None)
        try:
            await self._order_load(name, str(path))
        except EngineError as error:
            await self._put_back(name, old, error)
            raise

    async def _put_back(self, name: str, old: str, why: EngineError) -> None:
        try:
            await self._order_load(name, old)
        except EngineError as second:
            both = f"{why.message}; the version before could not be put back: {second.message}"
            raise EngineError(why.kind, both) from second

    async def _order_load(self, name: str, path: str, *, load_inplace: bool = False) -> None:
        # The flag is only sent when it is needed: some releases keep it, and then read the disk at every step.
        body = {"lora_name": name, "lora_path": path} | ({"load_inplace": True} if load_inplace else {})
        answer = await self._client.post("/v1/load_lora_adapter", body, self._limits.load)
        if not answer.ok:
            raise _refusal(answer)

    async def _shown(self, name: str) -> str | None:
        return split(await models(self._client, self._limits.listing))[1].get(name)

    async def _ask_version(self) -> str:
        answer = await self._client.get("/version", self._limits.listing)
        value = answer.json() if answer.ok else None
        version = value.get("version") if isinstance(value, dict) else None
        return version[:64] if isinstance(version, str) else ""


def _knows_no_inplace(error: EngineError) -> bool:
    # Newer request types refuse a field that they do not know; older ones overlook it, and the name is taken then.
    refused = error.kind is ErrorKind.REFUSED and "load_inplace" in error.message
    return refused or error.kind is ErrorKind.ALREADY_LOADED


def _refusal(answer: Answer) -> EngineError:
    kind = _kind(answer)
    return EngineError(kind, _NOT_ENABLED) if kind is ErrorKind.NOT_ENABLED else refusal(answer, kind)


def _kind(answer: Answer) -> ErrorKind:
    """Return what a refusal to load or unload means. 500 is final: vLLM says it of every file that it cannot take."""
    words = message_of(answer)
    if known := kind_of_status(answer.status):
        return known
    if answer.status in (404, 405):
        return ErrorKind.NOT_FOUND if type_of(answer) == "NotFoundError" else ErrorKind.NOT_ENABLED
    if "LoRA is not enabled" in words:
        return ErrorKind.NOT_ENABLED
    if "already been loaded" in words or "already loaded" in words:
        return ErrorKind.ALREADY_LOADED
    if any(each in words for each in _DEAD):
        return ErrorKind.UNREACHABLE
    return ErrorKind.BUSY if "out of memory" in words else ErrorKind.REFUSED
