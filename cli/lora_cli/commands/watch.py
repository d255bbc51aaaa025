"""`kubectl lora watch NAME`: follows a run to its end. Exit code 1 when it failed, with the explanation."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lora_api.conditions import is_true
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.reasons import ConditionType
from lora_cli.cluster.collect import Collector
from lora_cli.cluster.connection import LORAJOBS, Cluster, Document, ForbiddenError
from lora_cli.commands.common import cluster_of, show_json, the_job
from lora_cli.display import say
from lora_cli.errors import FAILED, CliError
from lora_cli.explain.job import explain_job
from lora_cli.explain.operator import not_seen
from lora_cli.explain.reading import job_status
from lora_cli.explain.snapshot import Snapshot, Standing
from lora_cli.parser import add_cluster, add_output
from lora_cli.render.log_line import printable
from lora_cli.render.watch import Terminal, line, screen, waits_for

POLL_SECONDS = 2.0
"""One small read; the operator asks a new pod as often, and later every 15 s."""
_PATIENCE = 30
"""Reads that may fail in a row, a minute: a laptop changes its network, an API server restarts."""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("watch", help="follow a LoRAJob to its end", description=_ABOUT)
    parser.add_argument("name", help="name of the LoRAJob")
    add_cluster(parser)
    add_output(parser)
    parser.set_defaults(run=run)


_ABOUT = "Shows stage, progress, losses and speed until the run ends. Exit code 0: it succeeded; 1: it failed."


def run(chosen: argparse.Namespace) -> int:
    """Follow the run."""
    return follow(cluster_of(chosen), chosen.name, as_json=chosen.output == "json")


def follow(cluster: Cluster, name: str, *, as_json: bool = False, generation: int = 0) -> int:
    """Follow a LoRAJob until its run has ended, and return the exit code. A status of an older generation is waited
    for, since it speaks of the run before."""
    show = _show_nothing if as_json else (Screen(name).show if sys.stdout.isatty() else Lines(name).show)
    document, told = the_job(cluster, name), False
    while True:
        status = job_status(document)
        show(status, datetime.now(UTC))
        told = told or _tell_of_silence(document, status)
        if _ended(status) and (status.observed_generation or 0) >= max(generation, document["metadata"]["generation"]):
            return _finish(cluster, document, status, as_json=as_json)
        time.sleep(POLL_SECONDS)
        document = _again(cluster, name)


def _again(cluster: Cluster, name: str) -> Document:
    """Read the LoRAJob again, through short troubles of the network."""
    for _ in range(_PATIENCE):
        try:
            return the_job(cluster, name)
        except ForbiddenError:
            raise
        except CliError as error:
            if "there is no LoRAJob" in str(error):
                raise
            say(f"{error}; trying again")
            time.sleep(POLL_SECONDS)
    return the_job(cluster, name)


def _tell_of_silence(document: Document, status: LoRAJobStatus) -> bool:
    """Say that no operator looks after the job, and return whether it was said."""
    verdict = not_seen(Snapshot(document, datetime.now(UTC)), status.observed_generation)
    if verdict is None or verdict.standing != Standing.TROUBLE:
        return False
    say(f"{verdict.sentence}: {verdict.hint}")
    return True


def _ended(status: LoRAJobStatus) -> bool:
    return any(is_true(status.conditions, each) for each in (ConditionType.SUCCEEDED, ConditionType.FAILED))


def _finish(cluster: Cluster, document: Document, status: LoRAJobStatus, *, as_json: bool) -> int:
    succeeded = is_true(status.conditions, ConditionType.SUCCEEDED)
    if as_json:
        show_json(document.get("status") or {})
    elif succeeded and status.adapter:
        print(printable(f"adapter  {status.adapter.uri}"), printable(f"digest   {status.adapter.digest}"), sep="\n")
    if succeeded:
        return 0
    verdict = explain_job(Collector(cluster).snapshot(LORAJOBS, document)).verdict
    say(f"{verdict.sentence} ({verdict.reason})")
    if verdict.hint:
        say(f"What to do: {verdict.hint}")
    return FAILED


def _show_nothing(_: LoRAJobStatus, __: datetime) -> None:
    pass


class Screen:
    """A screen that is drawn over itself."""

    def __init__(self, name: str, write: Callable[[str], Any] = sys.stdout.write) -> None:
        self._name, self._write = name, write
        self._height = 0

    def show(self, status: LoRAJobStatus, now: datetime) -> None:
        """Draw the screen in place of the last one. It counts lines, so none may be longer than the terminal."""
        size = shutil.get_terminal_size()
        terminal = Terminal(size.columns, colour=True, unicode=speaks_unicode())
        lines = screen(self._name, status, now, terminal)[: max(1, size.lines - 1)]
        back = f"\x1b[{self._height}A" if self._height else ""
        self._write(back + "".join(f"\x1b[2K{each}\n" for each in lines) + "\x1b[J")
        sys.stdout.flush()
        self._height = len(lines)


class Lines:
    """A line whenever something has changed."""

    def __init__(self, name: str, write: Callable[[str], Any] | None = None) -> None:
        self._name, self._write = name, write or (lambda text: print(text, flush=True))
        self._last: tuple[object, ...] = ()

    def show(self, status: LoRAJobStatus, now: datetime) -> None:
        """Print a line if phase, reason, step, activity or what it waits for differ from the last one."""
        progress = status.progress
        state = (status.phase, status.reason, progress and (progress.step, progress.activity), status.failure)
        if state != self._last:
            for each in (line(self._name, status, now), *waits_for(status)):
                self._write(printable(each))
        self._last = state


def speaks_unicode() -> bool:
    """Return whether stdout can show braille."""
    try:
        "⣿█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
