"""The tables of a run, and the goals of the operator beside them."""

import os
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

from bench.operator.measurements import Found, Settings
from bench.operator.ours import Ours
from bench.operator.resting import Rest
from bench.operator.workload import Measured
from bench.trainer.report import Section, Verdict, cpu_model, usable_threads

_CHILDREN_GOAL = 10.0
_P99_GOAL = 0.08
_WRITES_GOAL = 9.0
_RSS_GOAL = 150.0
_SYNC_GOAL = 15.0
_MILLI = 1e3
_HELD = "while the Job controller is held and no pod starts"


def heading(command: str, today: date, settings: Settings, *, quick: bool) -> str:
    """Return the heading of a run with what it ran on."""
    warning = "**A quick run: it shows that everything works, its numbers mean little.**\n\n" if quick else ""
    return (
        f"## {today.isoformat()}, the operator beside Kubeflow Trainer\n\n{warning}"
        f"`{command}`: {cpu_model()}, {usable_threads()} processors for everything together, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}. Load before the run: {os.getloadavg()[0]:.1f}.\n"
        f"{settings.jobs:,} jobs of one pod each in {settings.namespaces} namespaces, on a real API server with etcd "
        "(without fsync), Job controller, scheduler and\n20 fake nodes (kwok), all processes on this machine. All "
        "times are the API server's own, from its audit log. Contenders take\nturns; each has the rights that its "
        "manifests give it. Requests a second of Kubernetes' own controllers are not limited.\n"
    )


def sections(found: Sequence[Found]) -> list[Section]:
    """Return the tables; the goals are those of our own operator, if it comes first."""
    tables = [
        _burst(found, "All at once, and the pods start", lambda each: each.long),
        _burst(found, f"All at once, {_HELD}", lambda each: each.alone),
        _rate(found, "Ten jobs a second, and the pods start", lambda each: each.rate),
        _rate(found, f"Ten jobs a second, {_HELD}", lambda each: each.alone_rate),
        _short(found),
        _rest(found),
        _restart(found),
        *([_preflight(found)] if found[0].preflight else []),
        _shares(found),
    ]
    return tables if found[0].name == Ours.name else [replace(each, verdicts=()) for each in tables]


def _burst(found: Sequence[Found], title: str, of: Callable[[Found], Measured]) -> Section:
    ours = of(found[0])
    return Section(
        f"{title}: until each job has its child Job",
        ("", "seconds until all child Jobs exist", "of it, users' requests", "child Jobs a second", "p50, s", "p99, s"),
        [
            (
                each.name,
                f"{of(each).to_children:.1f}",
                f"{of(each).creating:.1f}",
                f"{of(each).jobs / of(each).to_children:.0f}",
                f"{of(each).percentile(0.5):.2f}",
                f"{of(each).percentile(0.99):.2f}",
            )
            for each in found
        ],
        [
            Verdict(
                f"at most {_CHILDREN_GOAL:.0f} s until all child Jobs exist",
                f"{ours.to_children:.1f} s{_ratio(found, lambda each: of(each).to_children)}",
                ours.to_children <= _CHILDREN_GOAL,
            )
        ],
        [f"{ours.jobs:,} jobs, created 32 at a time as fast as the server takes them; p50 and p99: of one job."],
    )


def _rate(found: Sequence[Found], title: str, of: Callable[[Found], Measured]) -> Section:
    ours = of(found[0])
    return Section(
        f"{title}: from a user's request to the child Job",
        ("", "p50, ms", "p99, ms", "longest, ms"),
        [
            (
                each.name,
                f"{of(each).percentile(0.5) * _MILLI:.0f}",
                f"{of(each).percentile(0.99) * _MILLI:.0f}",
                f"{of(each).latencies[-1] * _MILLI:.0f}",
            )
            for each in found
        ],
        [
            Verdict(
                f"p99 under {_P99_GOAL * _MILLI:.0f} ms",
                f"{ours.percentile(0.99) * _MILLI:.0f} ms{_ratio(found, lambda each: of(each).percentile(0.99))}",
                ours.percentile(0.99) < _P99_GOAL,
            )
        ],
        [f"{ours.jobs:,} jobs."],
    )


def _short(found: Sequence[Found]) -> Section:
    ours = found[0].short
    writes = ours.a_job(ours.writes)
    return Section(
        "Short lives: pods end after 2 s, from the user's request to the last status",
        ("", "writes a job", "of them refused", "reads a job", "operator's CPU, ms a job", "all done after, s"),
        [
            (
                each.name,
                f"{each.short.a_job(each.short.writes):.2f}",
                f"{each.short.a_job(each.short.refused):.2f}",
                f"{each.short.a_job(each.short.reads):.2f}",
                f"{_cpu(each.short):.0f}",
                f"{each.short.to_end:.1f}",
            )
            for each in found
        ],
        [
            Verdict(
                f"at most {_WRITES_GOAL:.0f} writes a job, events in it",
                f"{writes:.2f}{_ratio(found, lambda each: each.short.a_job(each.short.writes))}",
                writes <= _WRITES_GOAL,
            )
        ],
        [
            *(f"{each.name}: {_kinds(each.short.writes, each.short.jobs)}." for each in found),
            "A TrainJob's status says nothing before its end, and there is no adapter object.",
        ],
    )


def _rest(found: Sequence[Found]) -> Section:
    ours = found[0].rest
    rss = sum(ours.rss.values())
    minutes = ours.seconds / 60
    return Section(
        "At rest: all pods run, and nothing happens",
        ("", "resident memory, MB", "CPU, percent of a processor", "writes a minute", "reads a minute"),
        [
            (
                each.name,
                _memory(each.rest),
                f"{100 * each.rest.used.contender / each.rest.used.clock:.1f}",
                f"{each.rest.writes.total() / minutes:.0f}",
                f"{each.rest.reads.total() / minutes:.0f}",
            )
            for each in found
        ],
        [
            Verdict(
                f"at most {_RSS_GOAL:.0f} MB",
                f"{rss:.0f} MB{_ratio(found, lambda each: sum(each.rest.rss.values()))}",
                rss <= _RSS_GOAL,
            )
        ],
        [
            f"Over {ours.seconds:.0f} s.",
            *(
                f"{each.name} asks every running pod for its progress every 15 s: {each.asked:,} answers by then."
                for each in found
                if each.asked
            ),
        ],
    )


def _restart(found: Sequence[Found]) -> Section:
    ours = found[0].restart
    met = ours.in_sync <= _SYNC_GOAL and not ours.writes
    return Section(
        "Restart: killed while all jobs run, and started again",
        ("", "in sync after, s", "CPU until then, s", "writes", "reads"),
        [
            (
                each.name,
                f"{each.restart.in_sync:.1f}",
                f"{each.restart.cpu:.1f}",
                f"{each.restart.writes.total()}",
                f"{each.restart.reads.total():,}",
            )
            for each in found
        ],
        [
            Verdict(
                f"in sync within {_SYNC_GOAL:.0f} s, without a write",
                f"{ours.in_sync:.1f} s, {ours.writes.total()} writes",
                met,
            )
        ],
        [
            "From the start of the process until it has looked at every job and none waits.",
            "Writes and reads until 35 s later.",
            *(f"{each.name}: {_kinds(each.restart.writes, 1)}." for each in found if each.restart.writes),
        ],
    )


def _preflight(found: Sequence[Found]) -> Section:
    ours = [(each.name, measured) for each in found for measured in each.preflight]
    return Section(
        f"Short lives with a preflight before, {ours[0][1].jobs:,} jobs (only ours has one)",
        ("", "all first Jobs after, s", "writes a job", "reads a job", "operator's CPU, ms a job", "all done after, s"),
        [
            (
                name,
                f"{each.to_children:.1f}",
                f"{each.a_job(each.writes):.2f}",
                f"{each.a_job(each.reads):.2f}",
                f"{_cpu(each):.0f}",
                f"{each.to_end:.1f}",
            )
            for name, each in ours
        ],
        notes=[f"{name}: {_kinds(each.writes, each.jobs)}." for name, each in ours],
    )


def _shares(found: Sequence[Found]) -> Section:
    def row(name: str, of: Callable[[Found], Measured]) -> list[tuple[str, str, str]]:
        return [(each.name, name, of(each).used.shares()) for each in found]

    return Section(
        "Who kept the processors busy",
        ("", "measurement", "processors, on average"),
        [
            *row("all at once", lambda each: each.long),
            *row("all at once, no pods", lambda each: each.alone),
            *row("ten a second", lambda each: each.rate),
            *row("ten a second, no pods", lambda each: each.alone_rate),
            *row("short lives", lambda each: each.short),
        ],
        notes=["The cluster: etcd, API server, controllers, scheduler, nodes. Strangers: what else ran here."],
    )


def _ratio(found: Sequence[Found], value: Callable[[Found], float]) -> str:
    """Return how the first stands to the second, if there is one."""
    if len(found) == 1:
        return ""
    ours, theirs = value(found[0]), value(found[1])
    return f", {ours / theirs:.2f} times that of {found[1].name}"


def _cpu(measured: Measured) -> float:
    return measured.used.contender / measured.jobs * _MILLI


def _memory(rest: Rest) -> str:
    parts = " + ".join(f"{each:.0f}" for each in rest.rss.values())
    return parts if len(rest.rss) == 1 else f"{parts} = {sum(rest.rss.values()):.0f}"


def _kinds(requests: Counter[str], jobs: int) -> str:
    return ", ".join(f"{count / jobs:.3g} {kind}" for kind, count in requests.most_common())
