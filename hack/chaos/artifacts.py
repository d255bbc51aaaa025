"""What a job has left in S3: what is whole, what is half-written, and what lies.

Knows the manifests and nothing of the trainer, as any reader of the bucket.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lora_api.artifacts import MANIFEST_NAME, CheckpointManifest, FileEntry, Manifest

ADAPTERS, CHECKPOINTS = "adapters", "checkpoints"


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of one job."""

    s3: Any
    bucket: str
    prefix: str
    """Ends with a slash."""

    def listing(self) -> dict[str, str]:
        """Return all keys, each with what changes when the object does."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        objects = [each for page in pages for each in page.get("Contents", [])]
        return {each["Key"]: f"{each['ETag']} {each['LastModified']}" for each in objects}

    def lies(self) -> list[str]:
        """Return each file that a manifest promises and that is not there as it says."""
        folders = whole_folders(self.listing())
        promised = [(f"{folder}/{entry.path}", entry) for folder in folders for entry in self._promised(folder)]
        return [key for key, entry in promised if not _is(entry, self._read(key))]

    def digests(self) -> list[str]:
        """Return the digests of the adapters that are visible."""
        folders = whole_folders(self.listing(), ADAPTERS)
        return [Manifest.model_validate_json(self._read(f"{each}/{MANIFEST_NAME}") or b"").digest for each in folders]

    def newest_checkpoint(self) -> int | None:
        """Return the step of the newest checkpoint that has a manifest."""
        folders = whole_folders(self.listing(), CHECKPOINTS)
        return max((int(each.rpartition("-")[2]) for each in folders), default=None)

    def measured_steps(self) -> list[int]:
        """Return the steps whose loss metrics.jsonl has, in its order."""
        content = self._read(f"{self.prefix}runs/1/metrics.jsonl") or b""
        lines = [json.loads(line) for line in content.splitlines()]
        return [line["step"] for line in lines if "loss" in line]

    def _promised(self, folder: str) -> list[FileEntry]:
        stored = self._read(f"{folder}/{MANIFEST_NAME}")
        if stored is None:  # removed since the listing
            return []
        if _kind(folder) == CHECKPOINTS:
            return CheckpointManifest.model_validate_json(stored).files
        manifest = Manifest.model_validate_json(stored)
        return [*manifest.files, *manifest.documents]

    def _read(self, key: str) -> bytes | None:
        try:
            content: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return content


def whole_folders(keys: Iterable[str], *kinds: str) -> list[str]:
    """Return the folders with a manifest, of adapters and checkpoints or of some kinds only."""
    folders = {key.rpartition("/")[0] for key in keys if key.endswith(f"/{MANIFEST_NAME}")}
    return sorted(folder for folder in folders if _kind(folder) in (kinds or (ADAPTERS, CHECKPOINTS)))


def half_folders(keys: Iterable[str]) -> list[str]:
    """Return the folders of adapters and checkpoints without a manifest."""
    keys = list(keys)
    folders = {key.rpartition("/")[0] for key in keys if _kind(key.rpartition("/")[0]) in (ADAPTERS, CHECKPOINTS)}
    return sorted(folders - set(whole_folders(keys)))


def _kind(folder: str) -> str:
    return folder.split("/")[-2]


def _is(entry: FileEntry, content: bytes | None) -> bool:
    return content is not None and hashlib.sha256(content).hexdigest() == entry.sha256 and len(content) == entry.size
