"""Driver of LoRAX, which has no load, unload or list: it loads an adapter at the first request for it.

To load is to send such a request ahead of the clients, so that a version that cannot be loaded is known before they
meet it. The id of a request is the path of the version, and clients must name that path: LoRAX reads an id once and
never again, so a link with a fixed name would answer with its first version for ever, and none is made.

What is served is what was warmed here, remembered in memory: after a restart of the agent it is warmed again, which
costs one token. A restart of the engine is seen when nobody listens, or its `/info` changes; one between two looks
goes unseen and harms nobody, because LoRAX loads by itself at the next request.
"""

from pathlib import Path
from typing import Any

from lora_agent.drivers.base import EngineError, ErrorKind, Listing, ProbeUnsupportedError, Prompt
from lora_agent.drivers.client import (
    DEFAULT_LIMITS,
    Answer,
    EngineClient,
    Limits,
    NotListeningError,
    kind_of_status,
    message_of,
    refusal,
    unreadable,
)
from lora_agent.drivers.openai import values_of

_WARM_TEXT = "Hello"


class LoraxDriver:
    """One LoRAX server."""

    kind = "lorax"
    can_stage = True
    proves_path = True
    works_offline = False

    def __init__(self, client: EngineClient, limits: Limits = DEFAULT_LIMITS) -> None:
        """Remember nothing as warmed."""
        self._client = client
        self._limits = limits
        self._warmed: dict[str, str] = {}
        self._info: dict[str, Any] | None = None

    async def list(self) -> Listing:
        """Return what was warmed since the engine started."""
        try:
            info = await self._look()
        except NotListeningError:
            self._forget(None)
            raise
        if info != self._info:
            self._forget(info)
        base, version = info.get("model_id"), info.get("version")
        bases = (base,) if isinstance(base, str) else ()
        return Listing(str(version or "")[:64], bases, dict(self._warmed))

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        """Warm the version. The one before stays loaded until LoRAX needs its place."""
        del replaces
        _taken(await self._generate(_WARM_TEXT, path, {}, self._limits.load))
        self._warmed[name] = str(path)

    async def unload(self, name: str, path: Path | None) -> None:
        """Forget the name. LoRAX keeps the version until it needs the place, and there is no way to tell it."""
        del path
        self._warmed.pop(name, None)

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        """Ask for one token. LoRAX takes texts only. The keys are ids."""
        if not isinstance(prompt, str):
            raise ProbeUnsupportedError("LoRAX takes no token ids")
        path = path or (Path(self._warmed[name]) if name in self._warmed else None)
        if name is not None and path is None:
            raise EngineError(ErrorKind.NOT_FOUND, f"{name} is not loaded")
        wish = {"details": True, "return_k_alternatives": top}
        answer = await self._generate(prompt, path if name is not None else None, wish, self._limits.generate)
        if answer.status == 422:  # the wish itself is refused, so the adapter is not to blame
            raise ProbeUnsupportedError(message_of(answer))
        return values_of(_top(_taken(answer).json()))

    async def _generate(self, text: str, path: Path | None, wish: dict[str, Any], seconds: float) -> Answer:
        adapter = {} if path is None else {"adapter_id": str(path), "adapter_source": "local"}
        parameters = {"max_new_tokens": 1, "do_sample": False} | wish | adapter
        return await self._client.post("/generate", {"inputs": text, "parameters": parameters}, seconds)

    async def _look(self) -> dict[str, Any]:
        for route in ("/health", "/info"):
            answer = await self._client.get(route, self._limits.listing)
            if not answer.ok:
                raise unreadable(answer)
        info = answer.json()
        if not isinstance(info, dict):
            raise EngineError(ErrorKind.UNREACHABLE, "GET /info answers with something else than an object")
        return info

    def _forget(self, info: dict[str, Any] | None) -> None:
        if self._info is not None:
            self._warmed.clear()
        self._info = info


def _taken(answer: Answer) -> Answer:
    if not answer.ok:
        raise refusal(answer, _kind(answer))
    return answer


def _kind(answer: Answer) -> ErrorKind:
    words = message_of(answer)
    if known := kind_of_status(answer.status):
        return known
    if "No such file" in words or "does not exist" in words or "not found" in words.lower():
        return ErrorKind.NOT_FOUND
    return ErrorKind.BUSY if "out of memory" in words.lower() else ErrorKind.REFUSED


def _top(value: Any) -> list[tuple[str, Any]]:
    try:
        found = value["details"]["tokens"][0]["alternative_tokens"]
        return [(str(each["id"]), each["logprob"]) for each in found]
    except (KeyError, IndexError, TypeError):
        raise ProbeUnsupportedError("the engine says no alternatives of a token") from None
