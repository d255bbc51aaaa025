"""Driver of SGLang: loads by HTTP, and unloads in a way that lasts.

Clients select an adapter as `<base>:<adapter>`; a bare name gets the base model's output without an error.

SGLang remembers the path of every name that it ever loaded, and the next request for an unloaded name loads it again
from there. So each name gets a path of its own, a link to the version under `/adapters/.links/<name>/`, which is
removed before the unload: the engine can find the old files no more, while other names and a rollback still have them.
A request may load the old version again between the last two steps of a change, so the list has the last word, and the
change is tried three times. There is no loading in place: for a moment during a change the name gets an error.
"""

from pathlib import Path
from typing import Any, Final

from lora_agent.drivers import links
from lora_agent.drivers.base import EngineError, ErrorKind, Listing, ProbeUnsupportedError, Prompt
from lora_agent.drivers.client import DEFAULT_LIMITS, Answer, EngineClient, Limits, kind_of_status, message_of, refusal
from lora_agent.drivers.openai import models, split, values_of
from lora_api.names import STORE_DIRECTORY

LINKS_DIRECTORY: Final = ".links"
TRIES: Final = 3
_KINDS: Final = (
    ("not enabled", ErrorKind.NOT_ENABLED),
    ("dp_size must be 1", ErrorKind.NOT_ENABLED),
    ("already loaded", ErrorKind.ALREADY_LOADED),
    ("not loaded", ErrorKind.NOT_FOUND),
    ("No such file", ErrorKind.NOT_FOUND),
    ("not found", ErrorKind.NOT_FOUND),
    ("does not exist", ErrorKind.NOT_FOUND),
    ("Repo id must", ErrorKind.NOT_FOUND),  # a folder that is not there is taken for the name of a hub repository
    ("incomplete unload", ErrorKind.BUSY),
    ("out of memory", ErrorKind.BUSY),
)
"""Every refusal is a 400; only its words differ."""


class SglangDriver:
    """One SGLang server."""

    kind = "sglang"
    can_stage = True
    proves_path = True
    works_offline = False

    def __init__(self, client: EngineClient, adapters_folder: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        """Take the folder that agent and engine both see under this path."""
        self._client = client
        self._links = adapters_folder / LINKS_DIRECTORY
        self._store = adapters_folder / STORE_DIRECTORY
        self._limits = limits
        self._version = ""

    async def list(self) -> Listing:
        """Return models and version; the links of the names are followed."""
        try:
            bases, roots = split(await models(self._client, self._limits.listing))
            self._version = self._version or await self._ask_version()
        except EngineError:
            self._version = ""
            raise
        return Listing(self._version, bases, {name: self._followed(root) for name, root in roots.items()})

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        """Load, after a lasting unload of what it replaces. A version that fails is followed by the one before."""
        if replaces == str(path):
            return
        try:
            await self._settle(name, path, known=replaces is None)
        except EngineError as error:
            if replaces is not None and error.kind is not ErrorKind.UNREACHABLE:
                await self._put_back(name, Path(replaces), error)
            raise

    async def unload(self, name: str, path: Path | None) -> None:
        """Unload until the list does not show the name. Waits for requests that run."""
        del path
        for _ in range(TRIES):
            await self._unload_once(name)
            if name not in (await self.list()).adapters:
                return
        raise EngineError(ErrorKind.BUSY, f"requests for {name} keep loading it again")

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        """Ask the engine's own route for one token. The keys are ids."""
        del path
        sampling = {"max_new_tokens": 1, "temperature": 0}
        body: dict[str, Any] = {"sampling_params": sampling, "return_logprob": True, "top_logprobs_num": top}
        body |= {"text": prompt} if isinstance(prompt, str) else {"input_ids": prompt}
        body |= {"lora_path": name} if name else {}
        answer = await self._client.post("/generate", body, self._limits.generate)
        words = message_of(answer)
        if answer.status in (404, 405) or (not answer.ok and "logprob" in words and "support" in words):
            raise ProbeUnsupportedError(words)
        if not answer.ok:
            raise refusal(answer, _kind(answer))
        return values_of(_top(answer.json()))

    async def _settle(self, name: str, path: Path, *, known: bool) -> None:
        """Load until the list shows the path. `known`: the name is free, so there is nothing to unload first."""
        for attempt in range(TRIES):
            if attempt or not known:
                await self._unload_once(name)
            try:
                await self._load_once(name, path)
            except EngineError as error:
                if error.kind is not ErrorKind.ALREADY_LOADED:
                    raise
            shown = (await self.list()).adapters.get(name)
            if shown == str(path):
                return
            if known and shown is not None:
                message = f"{name} is served from {shown or 'elsewhere'} already"
                raise EngineError(ErrorKind.ALREADY_LOADED, message)
        raise EngineError(ErrorKind.BUSY, f"requests for {name} keep loading the version before")

    async def _put_back(self, name: str, old: Path, why: EngineError) -> None:
        try:
            await self._settle(name, old, known=False)
        except EngineError as second:
            both = f"{why.message}; the version before could not be put back: {second.message}"
            raise EngineError(why.kind, both) from second

    async def _load_once(self, name: str, path: Path) -> None:
        folder = self._links / name
        links.publish(folder, path.name, path)
        body = {"lora_name": name, "lora_path": str(folder / path.name)}
        answer = await self._client.post("/load_lora_adapter", body, self._limits.load)
        if not answer.ok:
            raise refusal(answer, _kind(answer))

    async def _unload_once(self, name: str) -> None:
        for version in links.published(self._links / name):
            links.remove(self._links / name, version)
        answer = await self._client.post("/unload_lora_adapter", {"lora_name": name}, self._limits.load)
        if not answer.ok and _kind(answer) is not ErrorKind.NOT_FOUND and name in (await self.list()).adapters:
            raise refusal(answer, _kind(answer))

    def _followed(self, root: str) -> str:
        """Return the version's path for a root under the links; by name, if the link is removed already."""
        path = Path(root)
        if not path.is_relative_to(self._links):
            return root
        return str(links.target_of(path) if path.is_symlink() else self._store / path.name)

    async def _ask_version(self) -> str:
        for route in ("/server_info", "/get_server_info"):  # the newer name first
            answer = await self._client.get(route, self._limits.listing)
            value = answer.json() if answer.ok else None
            version = value.get("version") if isinstance(value, dict) else None
            if isinstance(version, str):
                return version[:64]
        return ""


def _kind(answer: Answer) -> ErrorKind:
    words = message_of(answer)
    if known := kind_of_status(answer.status):
        return known
    if answer.status == 404:
        return ErrorKind.NOT_ENABLED
    return next((kind for text, kind in _KINDS if text in words), ErrorKind.REFUSED)


def _top(value: Any) -> list[tuple[str, Any]]:
    """Return token and log-probability of the first generated token's alternatives: [[[number, id, text], ...]]."""
    try:
        return [(str(each[1]), each[0]) for each in value["meta_info"]["output_top_logprobs"][0]]
    except (KeyError, IndexError, TypeError):
        raise ProbeUnsupportedError("the engine says no log-probabilities") from None
