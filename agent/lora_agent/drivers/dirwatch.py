"""Driver of engines that watch a folder (NIM with `NIM_PEFT_SOURCE=/adapters`): a version is published as a link.

The engine looks at its own interval, and its list of models tells names only. So a listing proves that a name is
served, not with which version; what the engine makes of a link that leads elsewhere is its own affair. Hidden folders,
such as the store, hold no adapter_config.json themselves and are skipped by the watcher.
"""

from pathlib import Path

from lora_agent.drivers import links
from lora_agent.drivers.base import Listing, Prompt
from lora_agent.drivers.client import DEFAULT_LIMITS, EngineClient, Limits
from lora_agent.drivers.openai import completion, models, refuse_base_name


class DirwatchDriver:
    """One engine that watches the folder of the adapters."""

    kind = "dirwatch"
    can_stage = False
    proves_path = False
    works_offline = True

    def __init__(self, client: EngineClient, adapters_folder: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        """Take the folder that the engine watches."""
        self._client = client
        self._folder = adapters_folder
        self._limits = limits
        self._bases: tuple[str, ...] = ()

    async def list(self) -> Listing:
        """Return the models by name: those with a link of ours are adapters, whatever the engine calls their parent."""
        found = await models(self._client, self._limits.listing)
        linked = links.published(self._folder)
        adapters = {each.id: "" for each in found if each.id in linked or each.parent is not None}
        bases = [value for each in found if each.id not in adapters for value in (each.id, each.root) if value]
        self._bases = tuple(dict.fromkeys(bases))
        return Listing("", self._bases, adapters)

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        """Publish the link. The engine sees it at its next look, which the listing shows."""
        del replaces
        refuse_base_name(name, self._bases)
        links.publish(self._folder, name, path)

    async def unload(self, name: str, path: Path | None) -> None:
        """Remove the link. The engine sees it at its next look."""
        del path
        links.remove(self._folder, name)

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        """Ask for one token. Back ends without token ids answer with texts."""
        del path
        if name is None and not self._bases:
            await self.list()
        model = name or next(iter(self._bases), "")
        return await completion(self._client, model, prompt, top, None, self._limits.generate)
