"""The table of a run."""

import platform
from collections.abc import Iterator
from datetime import date
from statistics import median

from bench.serving.measurements import Found, Settings
from bench.trainer.report import Section, cpu_model, usable_threads


def heading(command: str, today: date, load: float, settings: Settings, *, quick: bool) -> str:
    """Return the heading of a run with what it ran on."""
    warning = "**A quick run: it shows that everything works, its numbers mean little.**\n\n" if quick else ""
    loads = settings.pods * settings.each
    return (
        f"## {today.isoformat()}, adapters for many pods\n\n{warning}"
        f"`{command}`: {cpu_model()}, {usable_threads()} processors for everything together, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}. Load before the run: {load:.1f}.\n"
        f"{settings.adapters} LoRAAdapters and {settings.pods} pods of {settings.each} adapters each ({loads:,} loads; "
        "one adapter is in all pods), on a real API\nserver with etcd (without fsync), with real operator, webhook, S3 "
        "and one real agent a pod; the engines are fake ones in\none process, and the benchmark plays the kubelet. "
        "Asserted by the engines' own lists, and by the bytes that some of them answer with.\n"
    )


def table(settings: Settings, found: Found) -> Section:
    """Return what was found."""
    return Section("Delivery", ("", "measured"), list(_rows(settings, found)))


def _rows(settings: Settings, found: Found) -> Iterator[tuple[str, str]]:
    pods, minutes = settings.pods, settings.rest_seconds / 60
    writes = sum(found.first_writes.values())
    yield f"from nothing to all served, {pods} pods start meanwhile", f"{found.first:.0f} s"
    yield "of it: operator's processor time, writes", f"{found.first_cpu:.0f} s, {writes}"
    yield "pods that were refused for now, and made again", f"{found.refused}"
    yield (
        f"new version of one adapter, canary and then 25 % at a time, until {pods} pods serve it",
        _spread(found.rollouts),
    )
    yield "writes of the operator for it", f"{median(found.update_writes):.0f}"
    yield f"the same without canary, all {pods} pods at once", _spread(found.at_once)
    requests = sum(found.rest_requests.values())
    kinds = ", ".join(f"{kind} {count / minutes:.1f}" for kind, count in found.rest_requests.most_common(5))
    yield (
        "requests to the API server a minute at rest",
        f"{requests / minutes:.1f}" + (f" ({kinds})" if kinds else ""),
    )
    yield (
        "operator at rest: processor time a minute, resident memory",
        (f"{found.rest_cpu:.2f} s, {found.operator_rss:.0f} MB"),
    )
    yield "one agent at rest: processor time a minute (median)", f"{found.agent_cpu:.2f} s"
    yield (
        "one agent at rest: resident memory, median and most",
        (f"{median(found.agent_rss):.0f} MB, {max(found.agent_rss):.0f} MB"),
    )


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} s (median of {len(values)}; {min(values):.1f} to {max(values):.1f})"
