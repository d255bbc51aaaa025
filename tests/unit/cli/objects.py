"""Objects of a cluster as the command line reads them, made of a few words."""

from datetime import UTC, datetime, timedelta
from typing import Any

from lora_api.loss_curve import CurvePoint
from lora_api.messages import TerminationMessage
from lora_cli.explain.snapshot import Snapshot
from support.samples import ADAPTER, DIGEST, PROGRESS, RESOLVED, checkpoint, lorajob

Document = dict[str, Any]
NOW = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)


def at(minutes_ago: float) -> str:
    """Return a time of the API."""
    return (NOW - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str = "True", reason: str = "Because", message: str = "", ago: float = 5) -> Document:
    """Return a condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": at(ago),
    }


def job(*conditions: Document, spec: Document | None = None, meta: Document | None = None, **status: Any) -> Document:
    """Return a LoRAJob that the operator has seen."""
    document = lorajob(**(spec or {}))
    metadata = {"namespace": "team-a", "uid": "u1", "generation": 1, "creationTimestamp": at(30)}
    told = {"observedGeneration": 1, "run": 1, "conditions": list(conditions)} | status
    return document | {"metadata": document["metadata"] | metadata | (meta or {}), "status": told}


def unseen(minutes_ago: float) -> Document:
    """Return a LoRAJob that nobody has looked at since it was made."""
    document = job(meta={"creationTimestamp": at(minutes_ago)})
    return {key: value for key, value in document.items() if key != "status"}


def training(**status: Any) -> Document:
    """Return a LoRAJob that trains."""
    losses = [CurvePoint(step=step, loss=3.0 * 0.97**step + 0.5) for step in range(0, 60, 2)]
    losses += [CurvePoint(step=step, eval_loss=3.2 * 0.97**step + 0.6) for step in (20, 40, 58)]
    told = {
        "phase": "Running",
        "reason": "Training",
        "progress": PROGRESS.model_copy(update={"eta_time": NOW + timedelta(seconds=754)}).wire(),
        "lossCurve": [each.wire() for each in losses],
        "checkpoint": checkpoint(50).wire(),
        "attempts": {"failures": 0, "disruptions": 1},
        "resolved": RESOLVED.wire(),
    }
    return job(condition("Running", reason="Training", message="Pod bot-1-train-x trains"), **(told | status))


def succeeded() -> Document:
    """Return a LoRAJob that has succeeded."""
    done = condition("Succeeded", reason="AdapterPublished", message=f"The adapter is published at {ADAPTER.uri}")
    return job(
        done, phase="Succeeded", reason="AdapterPublished", adapter=ADAPTER.wire(), adapterDigestShort="ab" * 6,
        completionTime=at(1),
    )  # fmt: skip


def short_run() -> Document:
    """Return a LoRAJob that has succeeded before its pod was asked: all that is known are its last words."""
    losses = [CurvePoint(step=step, loss=2.5 * 0.93**step + 0.25) for step in range(1, 31)]
    losses += [CurvePoint(step=step, eval_loss=2.5 * 0.93**step + 0.3) for step in (0, 15, 30)]
    document = succeeded()
    told = {
        "progress": {"activity": "Finished", "step": 30, "percent": 100.0, "loss": 0.5342, "evalLoss": 0.5835},
        "lossCurve": [each.wire() for each in losses],
        "checkpoint": checkpoint(30).wire(),
        "resolved": RESOLVED.model_copy(update={"plan": RESOLVED.plan.model_copy(update={"total_steps": 30})}).wire(),
    }
    return document | {"status": document["status"] | told}


def failed(reason: str, message: str, hint: str, code: int | None = None) -> Document:
    """Return a LoRAJob whose run has failed for good."""
    failure = {"reason": reason, "message": message, "hint": hint} | ({"exitCode": code} if code else {})
    told = condition("Failed", reason=reason, message=f"{message}. What to do: {hint}")
    return job(told, phase="Failed", reason=reason, failure=failure, completionTime=at(1))


def pod(
    state: Document | None = None, phase: str = "Pending", node: str = "node-1", stage: str = "train", **status: Any
) -> Document:
    """Return a pod of a stage."""
    container = [{"name": "trainer", "state": state}] if state else []
    labels = {"lora-operator.io/stage": stage}
    meta = {"name": f"bot-1-{stage}-x", "namespace": "team-a", "uid": "p1", "creationTimestamp": at(10)}
    return {
        "kind": "Pod",
        "metadata": meta | {"labels": labels},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "containerStatuses": container} | status,
    }


def waiting(reason: str, message: str = "") -> Document:
    """Return a pod whose container cannot start."""
    return pod({"waiting": {"reason": reason, "message": message}})


def ended(
    code: int,
    message: TerminationMessage | None = None,
    reason: str = "Error",
    ago: float = 1,
    stage: str = "train",
) -> Document:
    """Return a pod whose container has ended some minutes ago."""
    words = message.encode().decode() if message else ""
    state = {"terminated": {"exitCode": code, "reason": reason, "message": words, "finishedAt": at(ago)}}
    return pod(state, phase="Succeeded" if code == 0 else "Failed", stage=stage)


def work(*conditions: Document, stage: str = "train", **spec: Any) -> Document:
    """Return a Job of the run."""
    name = f"bot-1-{stage}"
    labels = {"lora-operator.io/stage": stage}
    metadata = {"name": name, "namespace": "team-a", "labels": labels}
    return {"kind": "Job", "metadata": metadata, "spec": spec, "status": {"conditions": list(conditions)}}


def event(kind: str, name: str, reason: str, message: str) -> Document:
    """Return an event."""
    about = {"kind": kind, "name": name}
    return {"metadata": {}, "involvedObject": about, "reason": reason, "message": message, "lastTimestamp": at(2)}


def snapshot(document: Document, *pods: Document, **parts: Any) -> Snapshot:
    """Return a snapshot."""
    return Snapshot(document, NOW, pods=pods, **{name: tuple(value) for name, value in parts.items()})


def adapter(*conditions: Document, generation: int = 1, **status: Any) -> Document:
    """Return a LoRAAdapter that the operator has seen."""
    source = {"uri": ADAPTER.uri, "digest": DIGEST}
    return {
        "apiVersion": "lora-operator.io/v1alpha1",
        "kind": "LoRAAdapter",
        "metadata": {
            "name": "support-bot", "namespace": "team-a", "uid": "a1", "generation": generation,
            "creationTimestamp": at(90),
        },
        "spec": {"baseModel": {"name": "s3://models/base"}, "source": source, "servedName": "support-bot"},
        "status": {"observedGeneration": 1, "conditions": list(conditions), "digest": DIGEST, "digestShort": "ab" * 6}
        | status,
    }  # fmt: skip


def serving_pod(state: str, reason: str = "", message: str = "", name: str = "vllm-0") -> Document:
    """Return what the status of a LoRAAdapter says of a pod."""
    return {"name": name, "node": "node-1", "engine": "vllm", "state": state, "reason": reason, "message": message}
