"""The agent's loop: looks at what is desired and what the engine serves, and starts what `decide.py` says.

It waits for nothing itself: downloads (two at a time) and the engine's calls (one at a time) run beside it, and the
status can be read at any moment. No fault of one adapter stops the others, and none of the loop ends it.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from dataclasses import replace

from lora_agent import logs
from lora_agent.decide import (
    UNPROVED,
    Action,
    Check,
    Download,
    Load,
    Probe,
    World,
    conflicts_of,
    departures,
    garbage,
    known_digest,
    lost,
    next_action,
)
from lora_agent.desired import DesiredFile, DesiredView
from lora_agent.gate import PATIENCE_SECONDS, Standing, is_ready, is_started, still_waited
from lora_agent.jobs import Job, is_same_work
from lora_agent.memory import Loaded, Memory, MemoryFile
from lora_agent.reporting import Activity, Leaving, leaving_report, report_of, standing_of, summary
from lora_agent.slot import Slot, delay, engine_returned, observed, revised
from lora_agent.transfer.protocol import StoreRecord
from lora_agent.work import Change, Tools, Worker, fault_from
from lora_api.delivery import AdapterState, AgentAdapter, AgentStatus, DesiredAdapter
from lora_api.reasons import Reason

_TICK_SECONDS = 0.5
_IDLE_LOOK_SECONDS = 2.0
_MAX_DOWNLOADS = 2
_GIVE_BACK_SECONDS = 5.0
"""Between two attempts to give an engine a version that it forgot."""
_END_SECONDS = 0.5
"""An engine's call that does not end when it is cancelled is left to the end of the process."""
_SETTLED = {AdapterState.SERVED, AdapterState.FAILED}


class Agent:
    """The state of the pod's adapters, and what is under way."""

    def __init__(self, tools: Tools, memory_file: MemoryFile, desired_file: DesiredFile) -> None:
        self._tools, self._memory_file, self._desired_file = tools, memory_file, desired_file
        self._memory = Memory()
        self._view = DesiredView()
        self._records: dict[str, StoreRecord] = {}
        self._worker = Worker(tools, self._records)
        self._slots: dict[str, Slot] = {}
        self._actions: dict[str, Action] = {}
        self._leaving: dict[str, Leaving] = {}
        self._give_back_at: dict[str, float] = {}
        self._jobs: dict[str, Job] = {}
        self._call: asyncio.Task[None] | None = None
        """The one task that may talk to the engine."""
        self._last_look = -_IDLE_LOOK_SECONDS
        self._began = tools.clock()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pending = True
        self._unkept = False
        tools.engine.keep = self._keep_loaded
        self._reported: dict[tuple[str, str], AgentAdapter] = {}

    async def run(self) -> None:
        """Work until the task is cancelled."""
        try:
            self._records.update(await asyncio.to_thread(self._tools.store.open, lambda: self._stopping))
            self._memory = self._memory_file.load()
            self._tools.engine.loaded = dict(self._memory.loaded)
            while True:
                try:
                    self.step()
                except Exception as error:
                    logs.error("a pass of the loop failed", error)
                await self._pause()
        finally:
            self._stopping = True
            await self._end()

    def step(self) -> None:
        """Make one pass: read, decide, start. Waits for nothing."""
        self._read_desired()
        self._observe()
        self._collect_garbage()
        self._look_at_engine()
        self._start_actions()
        reports = self._reports()
        self._pending = any(report.state not in _SETTLED for report in reports)
        self._keep_gate(reports)
        self._log_transitions(reports)

    def status(self) -> AgentStatus:
        """Return what the operator is told."""
        settings = self._tools.settings
        reports = self._reports()
        return AgentStatus(
            pod_uid=settings.pod_uid,
            started=self._memory.started,
            ready=self._ready(reports),
            engine=self._tools.engine.status(settings.max_rank),
            desired_digest=self._view.digest,
            adapters=reports,
        )

    def _keep_loaded(self, loaded: Mapping[str, Loaded]) -> None:
        """Write down what was given to the engine. Raises OSError."""
        self._memory = self._memory.model_copy(update={"loaded": dict(loaded)})
        self._memory_file.save(self._memory)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TICK_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    async def _end(self) -> None:
        """Stop what is under way. Nothing is unloaded: the engine goes on serving."""
        tasks = [job.task for job in self._jobs.values()] + ([self._call] if self._call else [])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)

    # What is desired.

    def _read_desired(self) -> None:
        view = self._desired_file.read()
        if view is self._view:
            return
        if view.trouble and view.trouble != self._view.trouble:
            logs.warn("the desired state is not followed", why=view.trouble)
        before, self._view = self._view, view
        self._tools.metrics.desired_invalid = bool(view.trouble)
        if view.desired is None or view.digest == before.digest:
            return
        logs.info("desired", digest=view.digest, adapters=len(view.desired.adapters))
        if self._memory.waited is None:
            names = [] if self._memory.started else sorted(each.name for each in view.desired.adapters)
            self._memory = self._memory.model_copy(update={"waited": names})
        self._slots = {each.name: self._revised(each.name, each) for each in view.desired.adapters}
        self._drop_outdated_downloads()

    def _revised(self, name: str, wanted: DesiredAdapter) -> Slot:
        slot = revised(self._slots[name], wanted) if name in self._slots else Slot(wanted)
        if slot.target:
            return slot
        return replace(slot, found=known_digest(wanted, self._records))

    def _drop_outdated_downloads(self) -> None:
        for name, job in self._jobs.items():
            slot = self._slots.get(name)
            if job.activity is Activity.DOWNLOADING and (slot is None or not is_same_work(job, slot)):
                job.task.cancel()

    # What the engine shows.

    def _observe(self) -> None:
        shown = self._tools.engine.shown()
        if shown is None:
            return
        for name, slot in self._slots.items():
            digest = shown.get(slot.wanted.served_name, "").removeprefix(UNPROVED)
            self._slots[name] = observed(slot, digest, on_disk=digest in self._records)

    def _look_at_engine(self) -> None:
        wait = _TICK_SECONDS if self._pending or not self._tools.engine.reachable else _IDLE_LOOK_SECONDS
        if self._call is None and self._tools.clock() - self._last_look >= wait:
            self._start_call(self._look())

    async def _look(self) -> None:
        restarts = self._tools.engine.restarts
        if await self._tools.engine.look():
            self._slots = {name: engine_returned(slot) for name, slot in self._slots.items()}
            self._leaving = {}
            restarted = self._tools.engine.restarts > restarts
            logs.info("the engine answers", engine=self._tools.engine.driver.kind, restarted=restarted)

    # What to do.

    def _start_actions(self) -> None:
        world, now = self._world(), self._tools.clock()
        self._actions = {name: next_action(slot, world, now) for name, slot in self._slots.items()}
        for name in self._in_order():
            action = self._actions[name]
            if name in self._jobs:
                continue
            if isinstance(action, Download):
                self._start_download(name)
            elif isinstance(action, Check):
                work = self._worker.check(self._slots[name].wanted, action.digest)
                self._start_job(name, Activity.CHECKING, work)
        if self._call is None:
            self._start_engine_action()

    def _start_download(self, name: str) -> None:
        running = [job.slot for job in self._jobs.values() if job.activity is Activity.DOWNLOADING]
        slot = self._slots[name]
        twin = any(slot.target and other.target == slot.target for other in running)
        if len(running) < _MAX_DOWNLOADS and not twin:
            work = self._worker.download(slot.wanted, lambda change: self._change(name, self._jobs[name], change))
            self._start_job(name, Activity.DOWNLOADING, work)

    def _start_engine_action(self) -> None:
        """Start the one call to make next: what must go first, then the adapters with the fewest failures."""
        for name in self._departing():
            leaving = self._leaving.get(name, Leaving())
            can_call = self._tools.engine.reachable or self._tools.engine.driver.works_offline
            if can_call and self._tools.clock() >= leaving.retry_at:
                self._start_call(self._unload(name))
                return
        if self._start_give_back():
            return
        for name in self._in_order():
            action, slot = self._actions[name], self._slots[name]
            if name in self._jobs or not isinstance(action, Probe | Load):
                continue
            carry_out = self._worker.probe if isinstance(action, Probe) else self._worker.load
            self._start_job(name, Activity.LOADING, carry_out(slot.wanted, action.digest))
            self._call = self._jobs[name].task
            return

    def _in_order(self) -> list[str]:
        required = self._tools.settings.required
        return sorted(self._slots, key=lambda name: (name not in required, self._slots[name].failures, name))

    def _start_job(self, name: str, activity: Activity, work: Coroutine[object, object, Change]) -> None:
        task = asyncio.create_task(self._do(name, work))
        self._jobs[name] = Job(activity, task, self._slots[name])
        task.add_done_callback(lambda _: self._finish(name))

    async def _do(self, name: str, work: Coroutine[object, object, Change]) -> None:
        """Carry out one adapter's work, and keep what came of it."""
        job = self._jobs[name]
        try:
            change = await work
        except Exception as error:  # every fault is this adapter's alone
            change = self._worker.failed(fault_from(error))
        self._change(name, job, change)

    def _finish(self, name: str) -> None:
        """Let go of a job that ended; one that was cancelled before it began, too."""
        job = self._jobs.pop(name)
        if self._call is job.task:
            self._finish_call()
        self._wake.set()

    def _finish_call(self) -> None:
        self._call = None
        self._last_look = self._tools.clock()
        self._wake.set()

    def _start_call(self, work: Coroutine[object, object, None]) -> None:
        self._call = asyncio.create_task(self._do_call(work))
        self._call.add_done_callback(lambda _: self._finish_call())

    async def _do_call(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception as error:  # the loop outlives it
            logs.error("a call of the engine failed", error)

    async def _unload(self, name: str) -> None:
        try:
            await self._tools.engine.unload(name)
        except Exception as error:
            fault = fault_from(error)
            failures = self._leaving.get(name, Leaving()).failures + 1
            wait = delay(failures, Reason.ENGINE_REFUSED, self._tools.jitter())
            self._leaving[name] = Leaving(fault, failures, self._tools.clock() + wait)
            logs.warn("not unloaded", served_name=name, reason=fault.reason, why=fault.message)
        else:
            # An engine that looks at its folder now and then shows the name a little longer.
            self._leaving[name] = Leaving(None, 0, self._tools.clock() + _IDLE_LOOK_SECONDS)

    def _start_give_back(self) -> bool:
        """Start to give the engine back a version that it forgot, while the new one is not to be had."""
        world, now = self._world(), self._tools.clock()
        for name in self._in_order():
            job = self._jobs.get(name)
            busy = job is not None and job.activity is not Activity.DOWNLOADING
            digest = lost(self._slots[name], world)
            if digest and not busy and now >= self._give_back_at.get(name, now):
                self._give_back_at[name] = now + _GIVE_BACK_SECONDS
                self._start_call(self._give_back(name, digest))
                return True
        return False

    async def _give_back(self, name: str, digest: str) -> None:
        served_name = self._slots[name].wanted.served_name
        try:
            await self._tools.engine.load(served_name, name, digest)
        except Exception as error:
            fault = fault_from(error)
            logs.warn("not given back", served_name=served_name, reason=fault.reason, why=fault.message)

    def _change(self, name: str, job: Job, change: Change) -> None:
        """Change a slot, if what the job was started for is still what is wanted."""
        slot = self._slots.get(name)
        if slot is not None and is_same_work(job, slot):
            self._slots[name] = change(slot)

    def _departing(self) -> list[str]:
        engine, desired = self._tools.engine, self._view.desired
        wanted = None if desired is None else frozenset(each.served_name for each in desired.adapters)
        offline = engine.driver.works_offline
        return departures(wanted, engine.shown(), engine.loaded, offline=offline)

    def _world(self) -> World:
        engine, desired = self._tools.engine, self._view.desired
        return World(
            store=self._records,
            shown=engine.shown(),
            loaded=engine.loaded,
            bases=engine.bases,
            can_stage=engine.driver.can_stage,
            works_offline=engine.driver.works_offline,
            conflicts=conflicts_of(desired, engine.shown(), engine.bases) if desired else None,
        )

    def _collect_garbage(self) -> None:
        if self._view.desired is None or self._jobs or self._call is not None or self._departing():
            return
        engine, slots = self._tools.engine, self._slots.values()
        full = any(slot.fault and slot.fault.reason is Reason.DISK_FULL for slot in slots)
        for digest in garbage(self._records, slots, engine.shown(), engine.loaded, keep_previous=not full):
            del self._records[digest]
            self._tools.store.remove(digest)
            logs.info("removed", digest=digest)

    # What others see.

    def _reports(self) -> list[AgentAdapter]:
        shown = self._tools.engine.shown_lately()
        reports = []
        for name, slot in sorted(self._slots.items()):
            job = self._jobs.get(name)
            action = self._actions.get(name, Download(None))
            reports.append(report_of(slot, action, job.activity if job else None, shown, self._records))
        for name in self._departing():
            leaving = self._leaving.get(name, Leaving())
            report = leaving_report(name, self._tools.engine.loaded.get(name), shown, leaving)
            reports += [report] if report else []
        return reports

    def _ready(self, reports: list[AgentAdapter]) -> bool:
        return self._memory.started and is_ready(
            self._tools.settings.required, self._memory.waited, self._standings(reports)
        )

    def _standings(self, reports: list[AgentAdapter]) -> dict[str, Standing]:
        engine, wanted = self._tools.engine, [each for each in reports if each.state is not AdapterState.UNLOADING]
        offline = engine.driver.works_offline
        return {each.name: standing_of(each, self._records, engine.loaded, offline=offline) for each in wanted}

    def _keep_gate(self, reports: list[AgentAdapter]) -> None:
        standings = self._standings(reports)
        waited = self._memory.waited
        if waited is not None and self._view.desired is not None:
            waited = still_waited(waited, standings)
        patience_over = self._tools.clock() - self._began >= PATIENCE_SECONDS
        required = self._tools.settings.required
        started = self._memory.started or is_started(required, waited, standings, patience_over=patience_over)
        self._memory = self._memory.model_copy(update={"waited": waited, "started": started})
        self._save_memory()

    def _save_memory(self) -> None:
        try:
            self._memory_file.save(self._memory)
        except OSError as error:  # a full disk: it is known as long as this process lives
            if not self._unkept:
                logs.error("the agent's memory is not written", error)
            self._unkept = True
        else:
            self._unkept = False

    def _log_transitions(self, reported: list[AgentAdapter]) -> None:
        reports = {(each.name, each.served_name): each for each in reported}
        for key, report in reports.items():
            before = self._reported.get(key)
            if before is None or summary(before) != summary(report):
                logs.info("adapter", **summary(report))
        for name, served_name in self._reported.keys() - reports.keys():
            logs.info("adapter gone", name=name, served_name=served_name)
        self._reported = reports
