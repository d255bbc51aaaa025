"""Objects as a cluster has them, for the tests and the pictures of the dashboard."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

DIGEST = "sha256:" + "0a1b5f0c2d3e" + "4f" * 26
OLDER_DIGEST = "sha256:" + "7c9d02ee51ab" + "31" * 26
HOSTILE = '<img src=x onerror="window.attacked=true"><script>window.attacked=true</script>\u202e"\'&lt;'
BASE = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"


def ago(**span: float) -> str:
    """Return a time in the past, as Kubernetes writes it."""
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(
    name: str, namespace: str = "team-a", *, status: Document | None = None, age: int = 52, **spec: Any
) -> Document:
    """Return a LoRAJob."""
    metadata = {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": ago(minutes=age)}
    metadata["uid"] = f"uid-{namespace}-{name}"
    wanted = {
        "baseModel": {"uri": BASE, "revision": "main"},
        "dataset": {"train": {"uri": "s3://datasets/support.jsonl"}, "validation": {"fraction": 0.05}},
        "output": {"uri": "s3://adapters"},
    }
    found: Document = {"apiVersion": "lora-operator.io/v1alpha1", "kind": "LoRAJob"}
    return found | {"metadata": metadata, "spec": wanted | spec, "status": status or {}}


def curve(last: int, total: int = 1200) -> list[Document]:
    """Return a loss curve up to a step."""
    points: list[Document] = []
    for step in range(20, last + 1, 20):
        fall = 1.15 + 1.35 * math.exp(-step / (0.28 * total))
        point = {"step": step, "loss": round(fall + 0.045 * math.sin(step / 17) + 0.03 * math.cos(step / 5), 4)}
        if step % 100 == 0:
            point["evalLoss"] = round(fall + 0.06 + 0.00003 * step, 4)
        points.append(point)
    return points


def condition(kind: str, status: str, reason: str, message: str) -> Document:
    """Return a condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": ago(minutes=31),
    }


PREFLIGHT = condition("PreflightPassed", "True", "PreflightSucceeded", "12,480 rows; 11.2 GiB of 24 GiB on a device")
SERVABLE = [
    {"engine": "vllm", "servable": True, "message": ""},
    {"engine": "sglang", "servable": True, "message": "needs --max-lora-rank 16 and --lora-target-modules all"},
    {"engine": "tgi", "servable": False, "message": "rank 12 is none that its kernels compute: 8, 16, 32, 64, 128"},
]
RESOLVED = {
    "baseRevision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    "datasetDigest": "sha256:" + "5b" * 32,
    "rows": 11_856,
    "validationRows": 624,
    "tokens": 4_512_330,
    "parameters": 134_515_008,
    "trainableParameters": 4_884_480,
    "plan": {"microBatchSize": 8, "accumulationSteps": 4, "maxLength": 1024, "totalSteps": 1200, "packing": True},
    "memoryEstimate": {
        "total": 4_123_456_789,
        "weights": 269_030_016,
        "adapter": 78_151_680,
        "activations": 2_254_857_830,
        "logits": 1_207_959_552,
        "working": 313_457_711,
    },
    "format": "Messages",
    "truncatedRows": 12,
    "adapterBytes": 19_537_920,
    "servable": SERVABLE,
    "warnings": ["12 rows are longer than maxLength (1024) and were cut; raise training.maxLength to keep them whole"],
}


def training(step: int = 640) -> Document:
    """Return the status of a job that trains."""
    points = curve(step)
    evaluated = [each["evalLoss"] for each in points if "evalLoss" in each]
    eta = (datetime.now(UTC) + timedelta(seconds=(1200 - step) * 1.7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "observedGeneration": 1,
        "phase": "Running",
        "reason": "Training",
        "run": 2,
        "startTime": ago(minutes=34),
        "attempts": {"failures": 0, "disruptions": 1},
        "conditions": [
            PREFLIGHT,
            condition("Scheduled", "True", "PodScheduled", "The training pod runs on node gpu-3"),
            condition("Running", "True", "Training", f"Step {step} of 1200; the training pod runs on node gpu-3"),
            condition("Overfitting", "False", "NoOverfitting", "The last evaluation gave no alarm"),
        ],
        "resolved": RESOLVED,
        "progress": {
            "activity": "Training",
            "step": step,
            "totalSteps": 1200,
            "epoch": round(step / 400, 2),
            "percent": round(step / 12, 1),
            "loss": points[-1]["loss"],
            **({"evalLoss": evaluated[-1]} if evaluated else {}),
            "tokensPerSecond": 18_432.7,
            "etaTime": eta,
            "microBatchSize": 8,
            "accumulationSteps": 4,
            "resumedFromStep": 300,
        },
        "lossCurve": points,
        "checkpoint": {
            "step": 600,
            "uri": "s3://adapters/team-a/x/runs/2/checkpoints/step-00000600",
            "time": ago(minutes=2),
        },
        "history": [{"run": 1, "result": "Failed", "reason": "OutOfMemory", "finishedTime": ago(minutes=36)}],
    }


def succeeded() -> Document:
    """Return the status of a job that has succeeded."""
    done = training(1200) | {"phase": "Succeeded", "reason": "AdapterPublished", "completionTime": ago(minutes=3)}
    done["conditions"] = [PREFLIGHT, condition("Succeeded", "True", "AdapterPublished", "The adapter is published")]
    done["adapter"] = {
        "uri": f"s3://adapters/team-a/support-bot/adapters/{DIGEST.replace(':', '-')}",
        "digest": DIGEST,
        "bytes": 19_601_228,
        "metrics": {"trainLoss": 1.1712, "evalLoss": 1.2604},
        "servable": SERVABLE,
    }
    done["adapterDigestShort"] = "0a1b5f0c2d3e"
    return done


def failed() -> Document:
    """Return the status of a job that has failed."""
    return {
        "observedGeneration": 1,
        "phase": "Failed",
        "reason": "BadData",
        "run": 1,
        "startTime": ago(minutes=12),
        "completionTime": ago(minutes=11),
        "conditions": [condition("Failed", "True", "BadData", "Row 4,127 has no completion")],
        "failure": {
            "reason": "BadData",
            "exitCode": 65,
            "message": "s3://datasets/orders.jsonl, row 4127: the field completion is missing",
            "hint": "Write the field, or name its column in spec.dataset.train.columns",
        },
    }


def waiting(phase: str, reason: str, message: str, kind: str = "Scheduled") -> Document:
    """Return the status of a job that waits."""
    return {
        "observedGeneration": 1,
        "phase": phase,
        "reason": reason,
        "run": 1,
        "conditions": [PREFLIGHT, condition(kind, "False", reason, message)],
    }


def adapter(name: str, namespace: str = "team-a", *, status: Document | None = None, **spec: Any) -> Document:
    """Return a LoRAAdapter."""
    wanted = {
        "baseModel": {"name": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": RESOLVED["baseRevision"]},
        "source": {"uri": f"s3://adapters/{namespace}/{name}/adapters/{DIGEST.replace(':', '-')}", "digest": DIGEST},
        "servedName": name,
    }
    metadata = {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": ago(days=3)}
    metadata |= {"labels": {"lora-operator.io/job": name}, "uid": f"uid-adapter-{namespace}-{name}"}
    found: Document = {"apiVersion": "lora-operator.io/v1alpha1", "kind": "LoRAAdapter"}
    return found | {"metadata": metadata, "spec": wanted | spec, "status": status or {}}


def rolling() -> Document:
    """Return the status of an adapter whose new version reaches its pods."""
    base = {"name": "HuggingFaceTB/SmolLM2-135M-Instruct"}

    def version(digest: str, state: str, **more: str) -> Document:
        uri = f"s3://adapters/team-a/support-bot/adapters/{digest.replace(':', '-')}"
        return {"digest": digest, "state": state, "source": {"uri": uri}, "baseModel": base, "time": ago(days=1)} | more

    def pod(name: str, state: str, digest: str, reason: str = "", message: str = "") -> Document:
        found = {"name": name, "node": "gpu-1", "engine": "vllm", "state": state, "digest": digest}
        return found | {"reason": reason, "message": message}

    return {
        "observedGeneration": 1,
        "digest": DIGEST,
        "digestShort": "0a1b5f0c2d3e",
        "previousDigest": OLDER_DIGEST,
        "servedPods": "2/3",
        "desiredPods": 3,
        "readyPods": 2,
        "conditions": [
            condition("Compatible", "True", "Compatible", "vllm can load it"),
            condition("Loaded", "True", "Served", "Every pod serves a version"),
            condition("Progressing", "True", "RollingOut", "2 of 3 pods serve 0a1b5f0c2d3e"),
            condition("Ready", "False", "RollingOut", "2 of 3 pods serve 0a1b5f0c2d3e"),
        ],
        "rollout": {
            "digest": DIGEST,
            "generation": 1,
            "stage": "Rolling",
            "canary": "chat-7d9f6b5c4-k2x8p",
            "startedTime": ago(minutes=4),
            "progressTime": ago(minutes=1),
        },
        "versions": [
            version(DIGEST, "Serving"),
            version(OLDER_DIGEST, "Superseded"),
            version("sha256:" + "e4" * 32, "Rejected", reason="NoEffect", message="The answers are those of the base"),
        ],
        "compatibility": SERVABLE[:2],
        "pods": [
            pod("chat-7d9f6b5c4-zz91q", "Downloading", OLDER_DIGEST, "Loading", "12 of 19 MiB are here"),
            pod("chat-7d9f6b5c4-k2x8p", "Served", DIGEST),
            pod("chat-7d9f6b5c4-m4nfw", "Served", DIGEST),
        ],
    }


def realistic_jobs() -> list[Document]:
    """Return the jobs of a cluster of two teams."""
    queued = waiting("Queued", "Queued", "Kueue: insufficient quota of nvidia.com/gpu in team-b", "Admitted")
    pull = "The image registry.example/trainer:0.9 cannot be pulled: not found"
    return [
        job("support-bot", age=35, status=training()),
        job("invoice-tagger", "team-b", age=64, status=training(1060), task="TokenClassification"),
        job("product-notes", age=190, status=succeeded()),
        job("order-mailbox", age=12, status=failed()),
        job("intent-router", "team-b", age=1500, status=succeeded(), task="SequenceClassification"),
        job("legal-summaries", "team-b", age=8, status=queued, task="Seq2SeqLM"),
        job("voice-of-shop", age=21, status=waiting("Stalled", "ImagePullFailed", pull, "Stalled")),
        job("tone-preferences", "team-b", age=9, status=training(180), objective="DPO"),
        job(
            "night-batch", age=2900, status=waiting("Suspended", "SuspendedByUser", "spec.suspend is true", "Suspended")
        ),
        job("returns-faq", age=1),
    ]


def realistic_adapters() -> list[Document]:
    """Return the adapters of that cluster."""
    ready = rolling() | {"readyPods": 2, "desiredPods": 2, "pods": rolling()["pods"][1:]}
    ready["conditions"] = [condition("Ready", "True", "Served", "2 of 2 pods serve 0a1b5f0c2d3e")]
    ready["rollout"] = rolling()["rollout"] | {"stage": "Done"}
    degraded = rolling() | {"readyPods": 0}
    reason = "Pod chat-0 gave up 0a1b5f0c2d3e: its rank 64 is above --max-lora-rank 16"
    degraded["conditions"] = [condition("Degraded", "True", "RolledBack", reason)]
    degraded["rollout"] = rolling()["rollout"] | {"stage": "Failed"}
    return [
        adapter("support-bot", status=rolling()),
        adapter("product-notes", status=ready),
        adapter("intent-router", "team-b", status=degraded),
    ]
