"""The lists of LoRAJobs and LoRAAdapters."""

from datetime import datetime
from typing import Any

from lora_api.artifacts import short_digest
from lora_api.conditions import find_condition
from lora_api.loraadapter import LoRAAdapterStatus
from lora_api.reasons import ConditionType
from lora_cli.explain.reading import adapter_status, job_status, time_of
from lora_cli.render.units import age, duration, table
from lora_cli.render.watch import total_steps

Document = dict[str, Any]


def job_table(jobs: list[Document], now: datetime, *, everywhere: bool) -> list[str]:
    """Return a line for each LoRAJob, the newest last."""
    headers = ["NAME", "PHASE", "REASON", "RUN", "STEP", "LOSS", "EVAL", "ETA", "ADAPTER", "AGE"]
    ordered = sorted(jobs, key=lambda each: each["metadata"].get("creationTimestamp") or "")
    return _with_namespaces(headers, [(each, _job_row(each, now)) for each in ordered], everywhere=everywhere)


def _job_row(document: Document, now: datetime) -> list[str]:
    status = job_status(document)
    progress = status.progress
    step = f"{progress.step}/{total_steps(status) or '?'}" if progress else ""
    end = progress.eta_time if progress else None
    return [
        document["metadata"]["name"],
        status.phase.value if status.phase else "Unseen",
        status.reason or "",
        str(status.run or ""),
        step,
        f"{progress.loss:.4f}" if progress and progress.loss is not None else "",
        f"{progress.eval_loss:.4f}" if progress and progress.eval_loss is not None else "",
        duration(max(0.0, (end - now).total_seconds())) if end else "",
        status.adapter_digest_short or "",
        age(time_of(document["metadata"].get("creationTimestamp")), now),
    ]


def adapter_table(adapters: list[Document], now: datetime, *, everywhere: bool) -> list[str]:
    """Return a line for each LoRAAdapter."""
    headers = ["NAME", "SERVED AS", "BASE", "VERSION", "PODS", "READY", "ROLLOUT", "ENGINES", "AGE"]
    return _with_namespaces(headers, [(each, _adapter_row(each, now)) for each in adapters], everywhere=everywhere)


def _adapter_row(document: Document, now: datetime) -> list[str]:
    spec, status = document.get("spec") or {}, adapter_status(document)
    ready = find_condition(status.conditions, ConditionType.READY)
    return [
        document["metadata"]["name"],
        spec.get("servedName") or document["metadata"]["name"],
        (spec.get("baseModel") or {}).get("name", ""),
        short_digest(status.digest or ""),
        status.served_pods or "",
        f"{ready.status} ({ready.reason})" if ready else "Unseen",
        status.rollout.stage.value if status.rollout else "",
        " ".join(f"{each.engine}:{'yes' if each.servable else 'no'}" for each in status.compatibility),
        age(time_of(document["metadata"].get("creationTimestamp")), now),
    ]


def adapter_troubles(adapters: list[Document]) -> list[str]:
    """Return what is wrong below the table: conditions that are not as they should be, pods, engines that refuse."""
    lines: list[str] = []
    for document in adapters:
        found = list(_troubles(adapter_status(document)))
        lines += [f"{document['metadata']['name']}:", *(f"  {each}" for each in found)] if found else []
    return lines


def _troubles(status: LoRAAdapterStatus) -> list[str]:
    degraded = find_condition(status.conditions, ConditionType.DEGRADED)
    lines = [f"Degraded ({degraded.reason}): {degraded.message}"] if degraded and degraded.status == "True" else []
    for pod in status.pods:
        if pod.state != "Served":
            said = ": ".join(each for each in (pod.reason, pod.message) if each)
            lines.append(f"pod {pod.name}: {pod.state}" + (f": {said}" if said else ""))
    return lines + [f"{each.engine} refuses it: {each.message}" for each in status.compatibility if not each.servable]


def _with_namespaces(headers: list[str], rows: list[tuple[Document, list[str]]], *, everywhere: bool) -> list[str]:
    if not everywhere:
        return table(headers, [row for _, row in rows])
    return table(["NAMESPACE", *headers], [[each["metadata"]["namespace"], *row] for each, row in rows])
