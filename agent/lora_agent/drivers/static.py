"""Driver of engines that read adapters at their start only (TGI, or anything with a list of paths on its command line).

A version is put in place as a link, and serves from the next start of the engine on. What an engine read is not told by
any of them, so it is inferred: whatever links were there when it became reachable is what it serves, until nobody
listens any more; one that is slow or answers with errors is still the same. That record lies beside the links, because
the agent may restart while the engine does not. A link that appears after the engine's process began to read, and
before it answers, is counted wrongly; at the first start of a pod that cannot happen to the adapters that the engine's
start waits for.
"""

import json
import logging
import os
from pathlib import Path
from typing import Final

from lora_agent.drivers import links
from lora_agent.drivers.base import EngineError, ErrorKind, Listing, ProbeUnsupportedError, Prompt
from lora_agent.drivers.client import DEFAULT_LIMITS, EngineClient, Limits, NotListeningError, unreadable

_RECORD: Final = ".static-served.json"
_SERVER_ERROR: Final = 500
_LOG = logging.getLogger(__name__)


class StaticDriver:
    """One engine that reads adapters when it starts."""

    kind = "static"
    can_stage = False
    proves_path = True
    works_offline = True

    def __init__(self, client: EngineClient, adapters_folder: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        """Take the folder in which the engine finds adapters by served name."""
        self._client = client
        self._folder = adapters_folder
        self._limits = limits

    async def list(self) -> Listing:
        """Return what was in place when the engine last started, as far as its link has not been removed since."""
        served = await self._served()
        linked = links.published(self._folder)
        return Listing("", (), {name: path for name, path in served.items() if name in linked})

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        """Put the version in place. Raises NOT_ENABLED if the engine runs already: it is served after a restart."""
        del replaces
        links.publish(self._folder, name, path)
        try:
            served = await self._served()
        except EngineError:
            return  # it has not started, and will find the link
        if served.get(name) != str(path):
            message = f"{name} is in place, but this engine reads adapters at its start only: restart the pod"
            raise EngineError(ErrorKind.NOT_ENABLED, message)

    async def unload(self, name: str, path: Path | None) -> None:
        """Remove the link. The running engine keeps in memory what it read, until it restarts."""
        del path
        links.remove(self._folder, name)

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        """Say that it cannot be asked: which program this is, and how it is asked, is not known."""
        raise ProbeUnsupportedError("a static engine has no interface that is known")

    async def _served(self) -> dict[str, str]:
        """Return what the engine read. Raises UNREACHABLE if it does not say that it is well."""
        try:
            answer = await self._client.get("/health", self._limits.listing)
            if answer.status >= _SERVER_ERROR:  # it is still starting
                raise unreadable(answer)
        except NotListeningError:
            self._record().unlink(missing_ok=True)
            raise
        served = self._read()
        if served is None:
            served = {name: str(path) for name, path in links.published(self._folder).items()}
            self._write(served)
        return served

    def _record(self) -> Path:
        return self._folder / _RECORD

    def _read(self) -> dict[str, str] | None:
        try:
            value = json.loads(self._record().read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            _LOG.warning("The record of what the engine read is damaged and made anew", exc_info=True)
            return None
        return {str(name): str(path) for name, path in value.items()} if isinstance(value, dict) else None

    def _write(self, served: dict[str, str]) -> None:
        new = self._record().with_suffix(".new")
        with new.open("w") as file:
            json.dump(served, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._record())
