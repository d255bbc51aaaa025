"""Small adapters as PEFT writes them, good ones and bad ones, and their way into S3."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from safetensors.numpy import save

from lora_api.artifacts import MANIFEST_NAME, FileEntry, Manifest, ManifestBaseModel, ManifestDataset, ManifestJob
from lora_api.artifacts import digest_of as digest_of_files
from support.s3server import S3Server

BASE = "owner/base"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_WIDTH = 32

Files = dict[str, bytes]


def adapter_files(seed: int, *, rank: int = 8, zero: bool = False, base: str = BASE) -> Files:
    """Return a folder of PEFT. Each seed has its own bytes; `zero` is an adapter that was never trained."""
    chance = np.random.default_rng(seed)
    tensors = {}
    for module in ("q_proj", "v_proj"):
        name = f"base_model.model.model.layers.0.self_attn.{module}"
        tensors[f"{name}.lora_A.weight"] = chance.standard_normal((rank, _WIDTH)).astype(np.float32)
        second = np.zeros((_WIDTH, rank)) if zero else chance.standard_normal((_WIDTH, rank))
        tensors[f"{name}.lora_B.weight"] = second.astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
    return {CONFIG: json.dumps(config).encode(), WEIGHTS: save(tensors)}


@dataclass(frozen=True)
class Published:
    """An adapter in a bucket."""

    uri: str
    digest: str
    weights: str
    """SHA-256 of the weights in hexadecimal: what the fake engine says of itself while it serves them."""

    def source(self, **more: Any) -> dict[str, Any]:
        """Return the `source` of a LoRAAdapter."""
        return {"uri": self.uri, "digest": self.digest, **more}


def publish(
    s3: S3Server, bucket: str, files: Files, *, manifest: bool = True, folder: str = "", base: str = BASE
) -> Published:
    """Put an adapter into a bucket, under its digest or in a folder of its own. The manifest comes last."""
    entries = [FileEntry(path=path, size=len(content), sha256=_sha256(content)) for path, content in files.items()]
    digest = digest_of_files(entries)
    folder, client = folder or f"adapters/{digest.replace(':', '-')}", s3.client()
    for path, content in files.items():
        client.put_object(Bucket=bucket, Key=f"{folder}/{path}", Body=content)
    if manifest:
        body = _manifest(entries, digest, base).encode()
        client.put_object(Bucket=bucket, Key=f"{folder}/{MANIFEST_NAME}", Body=body)
    return Published(f"s3://{bucket}/{folder}", digest, _sha256(files[WEIGHTS]))


def truncate(s3: S3Server, published: Published) -> None:
    """Cut the weights of an adapter in its bucket, as a disk or a careless copy does."""
    bucket, _, folder = published.uri.removeprefix("s3://").partition("/")
    client, key = s3.client(), f"{folder}/{WEIGHTS}"
    content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=content[: len(content) // 2])


def _manifest(entries: list[FileEntry], digest: str, base: str) -> Manifest:
    return Manifest(
        kind="Adapter",
        digest=digest,
        files=entries,
        base_model=ManifestBaseModel(name=base, uri=f"hf://{base}", revision=""),
        dataset=ManifestDataset(uri="s3://data/rows.jsonl", digest=f"sha256:{'0' * 64}", rows=1),
        job=ManifestJob(namespace="team-a", name="support-bot", uid="uid", run=1),
        lora={},
        training={},
        metrics={},
        seed=0,
        step=1,
        versions={},
        created_time=datetime.now(UTC),
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
