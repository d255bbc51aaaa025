"""An engine, a source of files and an agent in memory, so that its decisions can be watched without processes."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_agent.desired import DesiredFile
from lora_agent.drivers.base import EngineError, ErrorKind, Listing, Prompt
from lora_agent.engine import Engine
from lora_agent.faults import Fault
from lora_agent.loop import Agent
from lora_agent.memory import MemoryFile
from lora_agent.metrics import Metrics
from lora_agent.settings import Settings
from lora_agent.store import Store
from lora_agent.transfer.protocol import DownloadRequest, FaultError, StoreRecord
from lora_agent.work import Tools
from lora_api.artifacts import FileEntry, GoldenSample, digest_of
from lora_api.delivery import AgentAdapter, AgentStatus, Desired, DesiredAdapter, ProbeResult
from lora_api.loraadapter import BaseModelReference, Verify

BASE = "hub/base"


def entries(content: bytes) -> list[FileEntry]:
    """Return the file list of an adapter whose weights are `content`."""
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": content}
    return [
        FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in files.items()
    ]


def digest_for(content: bytes) -> str:
    """Return the digest of an adapter whose weights are `content`."""
    return digest_of(entries(content))


def wish(name: str = "bot", content: bytes | None = b"one", **more: Any) -> DesiredAdapter:
    """Return a desired adapter; its URI says what the fake fetcher brings."""
    fields = {
        "name": name,
        "served_name": name,
        "uri": f"s3://bucket/{(content or b'any').decode()}",
        "digest": digest_for(content) if content is not None else None,
        "base_model": BaseModelReference(name=BASE),
    }
    return DesiredAdapter(**(fields | more))


class FakeDriver:
    """An engine in memory. `refuse` gives errors by path, in the order of calls."""

    kind = "vllm"
    can_stage = True
    proves_path = True
    works_offline = False

    def __init__(self) -> None:
        self.up = True
        self.adapters: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.refuse: dict[str, list[EngineError]] = {}
        self.always_refuse: dict[str, EngineError] = {}
        self.running = 0
        self.most_running = 0

    async def list(self) -> Listing:
        self._answer()
        return Listing("1.0", (BASE,), dict(self.adapters))

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        self.calls.append(("load", name))
        async with self._alone():
            assert replaces == self.adapters.get(name), "the agent must know what it replaces"
            if self.refuse.get(str(path)):
                raise self.refuse[str(path)].pop(0)
            if str(path) in self.always_refuse:
                raise self.always_refuse[str(path)]
            assert (path / "adapter_model.safetensors").exists(), "nothing is loaded before it is complete"
            self.adapters[name] = str(path)

    async def unload(self, name: str, path: Path | None) -> None:
        self.calls.append(("unload", name))
        async with self._alone():
            self.adapters.pop(name, None)

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        return {"1": -1.0}

    def restart(self) -> None:
        """Forget everything, as an engine's process does."""
        self.adapters.clear()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        self._answer()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        try:
            yield
        finally:
            self.running -= 1

    def _answer(self) -> None:
        if not self.up:
            raise EngineError(ErrorKind.UNREACHABLE, "connection refused")


@dataclass
class FakeFetcher:
    """Brings the content that the last part of a URI names, unless it is told otherwise."""

    faults: dict[str, list[Fault]] = field(default_factory=dict)
    """By content, used up one a download."""
    blocked: set[str] = field(default_factory=set)
    """Contents that never come."""
    fetched: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def fetch(self, request: DownloadRequest, progress: Callable[[int, int], None]) -> StoreRecord:
        content = request.uri.rpartition("/")[2]
        self.fetched.append(content)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0)
            progress(1, len(content))
            if content in self.blocked:
                await asyncio.Event().wait()
            if self.faults.get(content):
                raise FaultError(self.faults[content].pop(0))
        finally:
            self.running -= 1
        return write_adapter(Path(request.folder), content.encode())


def write_adapter(folder: Path, content: bytes) -> StoreRecord:
    """Write the files of an adapter, and return their record."""
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    return StoreRecord(digest=digest_for(content), files=entries(content))


@dataclass
class FakeCompatibility:
    """Finds every adapter fit, but those it is told."""

    refusals: dict[str, Fault] = field(default_factory=dict)
    """By LoRAAdapter."""

    def verdicts_of(self, folder: Path, manifest: object) -> list[Any]:
        return []

    def refusal(self, folder: Path, desired: DesiredAdapter, manifest: object, pod: object) -> Fault | None:
        return self.refusals.get(desired.name)


@dataclass
class FakeProber:
    """Finds every version good, but those it is told."""

    faults: dict[str, Fault] = field(default_factory=dict)
    """By digest."""

    async def __call__(
        self, driver: Any, name: str, path: Path, samples: Sequence[GoldenSample], verify: Verify
    ) -> tuple[ProbeResult, Fault | None]:
        assert driver.adapters[name] == str(path), "a version is asked under the name it was staged under"
        fault = self.faults.get(path.name.replace("-", ":"))
        return ProbeResult(effect=0.0 if fault else 1.0), fault


class Pod:
    """One pod: engine, files and an agent, which can die and come again."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.driver, self.fetcher = FakeDriver(), FakeFetcher()
        self.compatibility, self.prober = FakeCompatibility(), FakeProber()
        self.settings = Settings(
            engine="vllm",
            engine_url="http://engine",
            adapters=folder / "adapters",
            desired=folder / "desired.json",
            **settings,
        )
        self.store = Store(self.settings.adapters)
        self.metrics = Metrics()
        self.agent: Agent
        self.time = 0.0

    def desire(self, *wanted: DesiredAdapter) -> None:
        """Write what is desired, as the kubelet does."""
        new = self.folder / "desired.new"
        new.write_text(Desired(adapters=list(wanted)).encode())
        new.rename(self.settings.desired)

    def path(self, content: bytes) -> str:
        """Return the path that the engine must be given for a content."""
        return str(self.store.path_of(digest_for(content)))

    def status(self) -> AgentStatus:
        """Return what the agent says, through its JSON."""
        return AgentStatus.model_validate(json.loads(self.agent.status().model_dump_json(by_alias=True)))

    def adapter(self, name: str = "bot") -> AgentAdapter | None:
        """Return what the agent says of one adapter."""
        return next((each for each in self.status().adapters if each.name == name), None)

    def serves(self, name: str, content: bytes) -> bool:
        """Return whether engine and agent agree that a name answers with a content."""
        said = self.adapter(name)
        return (
            self.driver.adapters.get(name) == self.path(content)
            and said is not None
            and said.served_digest == digest_for(content)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run an agent; at the end of the block it is killed."""
        engine = Engine(self.driver, self.store, self.prober, self.clock)
        tools = Tools(
            settings=self.settings,
            store=self.store,
            engine=engine,
            fetcher=self.fetcher,
            compatibility=self.compatibility,
            metrics=self.metrics,
            clock=self.clock,
            jitter=lambda: 0.0,
        )
        self.agent = Agent(tools, MemoryFile(self.store.folder), DesiredFile(self.settings.desired))
        task = asyncio.create_task(self.agent.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def clock(self) -> float:
        """Return the pod's own time, which `until` and `passes` let go by."""
        return self.time

    async def until(self, what: str, look: Callable[[], Any], seconds: float = 200.0) -> None:
        """Let the pod's time go by until something is seen. Threads of a busy machine get real time besides."""
        end, patience = self.time + seconds, time.monotonic() + 30.0
        while not look():
            over = self.time >= end and time.monotonic() >= patience
            assert not over, f"not within {seconds} s: {what}; {self.status() if hasattr(self, 'agent') else ''}"
            await self.passes(0.5)

    async def passes(self, seconds: float) -> None:
        """Let a time of the pod go by, in passes of the agent half a second apart; longer ones in twenty passes."""
        count = min(20, max(1, int(seconds / 0.5)))
        for _ in range(count):
            self.time += seconds / count
            self.agent._wake.set()
            for _ in range(5):
                await asyncio.sleep(0.001)


async def serve(pod: Pod, name: str = "bot", content: bytes = b"one") -> None:
    """Wait until engine and agent agree that a name answers with a content."""
    await pod.until(f"{name} serves {content!r}", lambda: pod.serves(name, content))
