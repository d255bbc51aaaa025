"""Small adapters as PEFT writes them, and how they get into S3: whole, without a manifest, or broken on purpose.

They fit SmolLM2-135M, and their weights follow from a number, so each number is another adapter with an effect.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from safetensors.numpy import save

from e2e.serving.objects import BASE_URI
from lora_api.artifacts import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    ManifestBaseModel,
    ManifestDataset,
    ManifestJob,
    digest_of,
)

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
RANK = 4
_HIDDEN = 576
_OUTPUTS = {"q_proj": 576, "v_proj": 192}
_LAYERS = 2


@dataclass(frozen=True)
class Adapter:
    """The files of one version."""

    files: dict[str, bytes]

    @cached_property
    def entries(self) -> list[FileEntry]:
        """The list of files of which the digest is made."""
        return [
            FileEntry(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for path, content in self.files.items()
        ]

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the list of files."""
        return digest_of(self.entries)

    @property
    def weights_sha256(self) -> str:
        """What the played engine says of itself when it answers with this adapter."""
        return f"sha256:{hashlib.sha256(self.files[WEIGHTS_NAME]).hexdigest()}"

    def manifest(self) -> Manifest:
        """Return the manifest that a job would have written."""
        return Manifest(
            kind="Adapter",
            digest=self.digest,
            files=self.entries,
            base_model=ManifestBaseModel(name=BASE_URI, uri=BASE_URI, revision=""),
            dataset=ManifestDataset(uri="s3://datasets/none.jsonl", digest="none", rows=1),
            job=ManifestJob(namespace="e2e", name="e2e", uid="e2e", run=1),
            lora={"rank": json.loads(self.files[CONFIG_NAME])["r"]},
            training={},
            metrics={},
            seed=0,
            step=1,
            versions={},
            created_time=datetime.now(UTC),
        )


def make_adapter(number: int, rank: int = RANK) -> Adapter:
    """Return the adapter of a number."""
    random = np.random.default_rng(number)
    tensors = {}
    for layer in range(_LAYERS):
        for module, outputs in _OUTPUTS.items():
            path = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{path}.lora_A.weight"] = random.normal(0, 0.02, (rank, _HIDDEN)).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = random.normal(0, 0.1, (outputs, rank)).astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE_URI,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(_OUTPUTS),
        "inference_mode": True,
    }
    return Adapter({CONFIG_NAME: json.dumps(config, indent=2).encode(), WEIGHTS_NAME: save(tensors)})


def truncated(adapter: Adapter) -> Adapter:
    """Return an adapter whose weights end early."""
    weights = adapter.files[WEIGHTS_NAME]
    return Adapter(adapter.files | {WEIGHTS_NAME: weights[: len(weights) // 2]})


def upload(s3: Any, adapter: Adapter, folder: str, *, manifest: bool = True) -> str:
    """Put an adapter into a folder `s3://bucket/path`, the manifest last, and return the folder."""
    for path, content in adapter.files.items():
        put(s3, f"{folder}/{path}", content)
    if manifest:
        put(s3, f"{folder}/{MANIFEST_NAME}", adapter.manifest().encode())
    return folder


def truncate_weights(s3: Any, folder: str) -> None:
    """Cut the weights in a folder in half, whatever its manifest says."""
    bucket, key = _split(f"{folder}/{WEIGHTS_NAME}")
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=content[: len(content) // 2])


def put(s3: Any, uri: str, content: bytes) -> None:
    """Write one object."""
    bucket, key = _split(uri)
    s3.put_object(Bucket=bucket, Key=key, Body=content)


def _split(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.strip("/")
