"""The digest names the content: same files, same digest; anything else, another."""

import pytest

from lora_api.artifacts import ArtifactLayout, FileEntry, digest_of

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
    assert layout.checkpoint(40) == "s3://models/team-a/bot/runs/2/checkpoints/step-00000040"
    assert layout.adapter("sha256:ab") == "s3://models/team-a/bot/adapters/sha256-ab"
