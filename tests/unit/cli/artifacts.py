"""An adapter on disk, with the manifest and the report that a job leaves."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_api.artifacts import FileEntry, Manifest, ManifestBaseModel, ManifestDataset, ManifestJob, digest_of
from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan
from lora_api.request import public_uri, request_of

FILES = {"adapter_config.json": b'{"r":8,"alpha":16}', "adapter_model.safetensors": b"w" * 3_000_000}
DOCUMENTS = {"README.md": b"# an adapter\n"}
SPEC: dict[str, Any] = {
    "baseModel": {"uri": "hf://owner/base"},
    "dataset": {"train": {"uri": "s3://data/train.jsonl"}, "validation": {"fraction": 0.05}},
    "output": {"uri": "s3://models/prefix"},
    "lora": {"rank": 8, "targetModules": ["q_proj"]},
    "training": {"maxSteps": 30, "learningRate": 0.001, "seed": 7},
}
PLAN = Plan(micro_batch_size=4, accumulation_steps=4, max_length=512, total_steps=30)


def manifest_of(files: list[FileEntry], spec: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    """Return the manifest that a job with a spec writes."""
    parsed = LoRAJobSpec.model_validate(spec or SPEC)
    quantization = {"quantization": parsed.quantization.wire()} if parsed.quantization else {}
    return Manifest(
        kind="Adapter",
        digest=digest_of(files),
        files=files,
        documents=[entry(path, content) for path, content in DOCUMENTS.items()],
        base_model=ManifestBaseModel(name="owner/base", uri=parsed.base_model.uri, revision="c" * 40),
        dataset=ManifestDataset(
            uri=public_uri(parsed.dataset.train.uri), digest="e" * 64, rows=950, validation_rows=50, tokens=1000
        ),
        job=ManifestJob(namespace="team-a", name="bot", uid="u1", run=2, image="trainer:1"),
        lora=parsed.lora.wire(),
        training=parsed.training.wire() | quantization | {"plan": PLAN.wire()},
        request=request_of(parsed),
        metrics={"trainLoss": 1.0},
        seed=parsed.training.seed,
        step=30,
        versions={"python": "3.11", "torch": "2.13"},
        created_time=datetime(2026, 1, 2, tzinfo=UTC),
    ).model_copy(update=changes)


def earlier_manifest(spec: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    """Return the manifest that a trainer wrote before manifests held the request."""
    return manifest_of([], spec, request=None, **changes)


def report_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what of report.json is read."""
    parsed = LoRAJobSpec.model_validate(spec)
    train = parsed.dataset.train
    sets = [{"uri": train.uri, "weight": train.weight}]
    validation = parsed.dataset.validation
    sets += [{"uri": validation.uri, "weight": 1.0}] if validation and validation.uri else []
    return {"specDigest": parsed.result_digest(), "data": {"sets": sets}}


def entry(path: str, content: bytes) -> FileEntry:
    """Return the line of a file."""
    return FileEntry(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_artifact(root: Path, **changes: Any) -> Path:
    """Write an adapter and the report of its run below an output folder, and return the adapter's folder.

    `changes` replace fields of the manifest.
    """
    manifest = manifest_of([entry(path, content) for path, content in FILES.items()], **changes)
    job = root / "team-a" / "bot"
    folder = job / "adapters" / manifest.digest.replace(":", "-")
    folder.mkdir(parents=True)
    for path, content in {**FILES, **DOCUMENTS, "manifest.json": manifest.encode()}.items():
        (folder / path).write_bytes(content)
    (job / "runs" / "2").mkdir(parents=True)
    (job / "runs" / "2" / "report.json").write_text(json.dumps(report_of(SPEC)))
    return folder
