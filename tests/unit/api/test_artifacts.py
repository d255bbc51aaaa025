"""The digest names the content: same files, same digest; anything else, another."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from lora_api.artifacts import (
    ArtifactLayout,
    CheckpointManifest,
    FileEntry,
    Manifest,
    ManifestBaseModel,
    ManifestDataset,
    ManifestJob,
    ManifestRequest,
    digest_of,
)

WEIGHTS = FileEntry(path="adapter_model.safetensors", size=3, sha256="a" * 64)
CONFIG = FileEntry(path="adapter_config.json", size=2, sha256="b" * 64)


def test_the_order_of_files_does_not_matter() -> None:
    assert digest_of([WEIGHTS, CONFIG]) == digest_of([CONFIG, WEIGHTS])


@pytest.mark.parametrize("change", [{"path": "other"}, {"size": 4}, {"sha256": "c" * 64}])
def test_any_change_gives_another_digest(change: dict[str, object]) -> None:
    assert digest_of([WEIGHTS.model_copy(update=change), CONFIG]) != digest_of([WEIGHTS, CONFIG])


def test_the_digest_is_a_fixed_function_of_the_list() -> None:
    """Frozen: consumers in other languages compute it too."""
    assert digest_of([WEIGHTS, CONFIG]) == "sha256:8e43d48a097b1e743981ba0ca324179da3682cca776f170179b49c497f01f715"


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a//b", ""])
def test_a_path_cannot_leave_the_folder(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        FileEntry(path=path, size=0, sha256="a" * 64)


def test_the_layout_is_the_design() -> None:
    layout = ArtifactLayout(output_uri="s3://models/", namespace="team-a", name="bot", run=2)
    assert layout.report == "s3://models/team-a/bot/runs/2/report.json"
    assert layout.prepared == "s3://models/team-a/.prepared"
    assert layout.checkpoint(40).startswith(f"{layout.checkpoints}/")
    assert layout.checkpoint(40) == "s3://models/team-a/bot/runs/2/checkpoints/step-00000040"
    assert layout.adapter("sha256:ab") == "s3://models/team-a/bot/adapters/sha256-ab"
    assert layout.artifact("Merged", "sha256:ab") == "s3://models/team-a/bot/merged/sha256-ab"
    assert layout.artifact("GGUF", "sha256:ab") == "s3://models/team-a/bot/gguf/sha256-ab"


def test_a_checkpoint_manifest_reads_back_and_is_no_adapter() -> None:
    manifest = CheckpointManifest(
        files=[WEIGHTS],
        step=40,
        spec_digest="a" * 64,
        dataset_digest="sha256:b",
        base_revision="c",
        created_time=datetime(2026, 11, 24, tzinfo=UTC),
    )
    assert CheckpointManifest.model_validate_json(manifest.encode()) == manifest
    with pytest.raises(ValidationError, match="kind"):
        Manifest.model_validate_json(manifest.encode())


def manifest_of(**described: Any) -> Manifest:
    """Return the manifest of the two files; `described` is what only describes them."""
    return Manifest(
        kind="Adapter",
        digest=digest_of([WEIGHTS, CONFIG]),
        files=[WEIGHTS, CONFIG],
        **described,
        base_model=ManifestBaseModel(name="s3://models/base", uri="s3://models/base", revision="main"),
        dataset=ManifestDataset(uri="s3://data/train.jsonl", digest="sha256:e", rows=3),
        job=ManifestJob(namespace="team-a", name="bot", uid="u-1", run=1),
        lora={},
        training={},
        metrics={},
        seed=42,
        step=6,
        versions={},
        created_time=datetime(2026, 11, 24, tzinfo=UTC),
    )


def test_documents_are_in_the_manifest_and_not_in_the_digest() -> None:
    readme = FileEntry(path="README.md", size=9, sha256="d" * 64)
    read = Manifest.model_validate_json(manifest_of(documents=[readme]).encode())
    assert read.documents == [readme]
    assert read.digest == digest_of(read.files) != digest_of([*read.files, *read.documents])


def test_the_request_is_in_the_manifest_and_not_in_the_digest() -> None:
    request = ManifestRequest(spec={"training": {"seed": 7}}, withheld=["baseModel.tokenSecretRef"])
    read = Manifest.model_validate_json(manifest_of(request=request).encode())
    assert read.request == request
    assert read.digest == manifest_of().digest


def test_the_manifest_of_an_earlier_trainer_has_no_request() -> None:
    stored = json.loads(manifest_of().encode())
    assert "request" not in stored
    assert Manifest.model_validate(stored).request is None


def test_what_a_later_trainer_adds_is_ignored_at_every_place() -> None:
    """As agents read adapters of trainers that are newer than they are."""
    stored = json.loads(manifest_of(request=ManifestRequest(spec={"training": {}})).encode())
    later = stored | {"more": {"spec": 1}, "request": stored["request"] | {"more": 1}}
    assert Manifest.model_validate_json(json.dumps(later)) == Manifest.model_validate(stored)
