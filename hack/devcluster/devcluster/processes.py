"""Starts, watches and stops the cluster's long-running programs; a pid file and a log each, no supervisor."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.ports import check_free, is_free
from devcluster.settings import Paths
from devcluster.shell import DevclusterError, say, step

POLL_SECONDS = 0.1
HEALTH_GRACE_SECONDS = 15  # a running program may be busy, or heal by itself once its neighbour is back
START_SECONDS = 90
PORT_SECONDS = 5  # a process that has just gone holds its sockets until the last of its threads has gone too
STOP_SECONDS = 40  # the API server drains its watches first
LOG_LIMIT_BYTES = 50 * 2**20


@dataclass(frozen=True)
class Component:
    """One program of the cluster: how it is started and how one sees that it works."""

    name: str
    argv: list[str]
    listens: tuple[tuple[str, int], ...]
    healthy: Callable[[], bool]
    secrets: dict[str, str] = field(default_factory=dict)  # into its environment: every user can read arguments


@dataclass(frozen=True)
class Recorded:
    """What a pid file says. The start time tells the process from a later one with the same pid."""

    pid: int
    started: str
    argv: list[str]


def ensure(paths: Paths, component: Component) -> bool:
    """Running and healthy afterwards. Returns whether it had to be started."""
    recorded = read_pid_file(paths, component.name)
    if recorded:
        if recorded.argv == component.argv and _becomes_healthy(component, recorded, HEALTH_GRACE_SECONDS):
            return False
        say(f"{component.name} is {'unhealthy' if recorded.argv == component.argv else 'outdated'}: restarting it")
        stop(paths, component.name)
    _wait_until(lambda: all(is_free(*each) for each in component.listens), PORT_SECONDS)
    for address, port in component.listens:
        check_free(component.name, address, port)
    with step(f"started {component.name}"):
        _start(paths, component)
    return True


def stop(paths: Paths, name: str) -> None:
    """Asks, waits, and insists in the end. Returns when the process has gone."""
    recorded = read_pid_file(paths, name)
    if recorded:
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            _signal(recorded.pid, number)
            if _wait_until(lambda: not _is_alive(recorded), seconds):
                break
        else:
            raise DevclusterError(f"{name} (pid {recorded.pid}) does not end, even when killed")
    _pid_file(paths, name).unlink(missing_ok=True)


def read_pid_file(paths: Paths, name: str) -> Recorded | None:
    """The running process of this name; None if there is none, whatever a stale file says."""
    try:
        recorded = Recorded(**json.loads(_pid_file(paths, name).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return recorded if _is_alive(recorded) else None


def start_time(pid: int) -> str | None:
    """Clock ticks after boot at which the process started; None if it has gone or waits to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] == "Z" else fields[19]


def log_file(paths: Paths, name: str) -> Path:
    return paths.logs / f"{name}.log"


def _start(paths: Paths, component: Component) -> None:
    log = _open_log(paths, component.name)
    with log.open("ab") as output:
        process = subprocess.Popen(
            component.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **component.secrets},
            start_new_session=True,  # outlives this command and its terminal
            cwd="/",
        )
    recorded = Recorded(process.pid, start_time(process.pid) or "", component.argv)
    paths.pids.mkdir(parents=True, exist_ok=True)
    _pid_file(paths, component.name).write_text(json.dumps(vars(recorded)))
    if _becomes_healthy(component, recorded, START_SECONDS):
        return
    what = "is not healthy" if _is_alive(recorded) else "ended"
    stop(paths, component.name)
    raise DevclusterError(f"{component.name} {what} after its start: {_last_line(log)} (all of it in {log})")


def _becomes_healthy(component: Component, recorded: Recorded, seconds: float) -> bool:
    _wait_until(lambda: not _is_alive(recorded) or component.healthy(), seconds)
    return _is_alive(recorded) and component.healthy()


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _is_alive(recorded: Recorded) -> bool:
    return start_time(recorded.pid) == recorded.started


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _pid_file(paths: Paths, name: str) -> Path:
    return paths.pids / f"{name}.json"


def _open_log(paths: Paths, name: str) -> Path:
    paths.logs.mkdir(parents=True, exist_ok=True)
    log = log_file(paths, name)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.rename(log.with_suffix(".log.1"))
    return log


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
