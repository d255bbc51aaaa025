"""The values that `make deploy` gives to the chart: references of images, taken apart."""

from typing import Any

import pytest

from deploy.release import cluster_values, image_values, way_out

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("reference", "registry", "repository", "tag", "digest"),
    [
        ("lora-operator", "", "lora-operator", "", ""),
        ("lora-operator:1.2", "", "lora-operator", "1.2", ""),
        ("team/lora-operator:1.2", "", "team/lora-operator", "1.2", ""),
        ("registry.example/team/lora-operator", "registry.example", "team/lora-operator", "", ""),
        ("localhost/lora-operator:1.2", "localhost", "lora-operator", "1.2", ""),
        (f"registry:5000/lora-operator@{DIGEST}", "registry:5000", "lora-operator", "", DIGEST),
        (f"registry.example:5000/a/b:1.2@{DIGEST}", "registry.example:5000", "a/b", "1.2", DIGEST),
    ],
)
def test_a_reference_is_taken_apart(reference: str, registry: str, repository: str, tag: str, digest: str) -> None:
    expected = {"registry": registry, "repository": repository, "tag": tag, "digest": digest}
    assert image_values(reference) == expected


def test_each_part_gets_its_image() -> None:
    values: dict[str, Any] = cluster_values(
        {"LORA_OPERATOR_IMAGE": "a:1", "LORA_TRAINER_IMAGE": "b:2", "LORA_AGENT_IMAGE": "c:3"}
    )
    images = (values["image"], values["trainer"]["image"], values["agent"]["image"])
    assert [(each["repository"], each["tag"]) for each in images] == [("a", "1"), ("b", "2"), ("c", "3")]


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ("pending-install", "helm uninstall lora-operator --namespace lora-system"),
        ("pending-upgrade", "helm rollback lora-operator --namespace lora-system"),
        ("pending-rollback", "helm rollback lora-operator --namespace lora-system"),
        ("failed", "run it again"),
        ("", "run it again"),
    ],
)
def test_a_failure_ends_with_what_to_do(status: str, command: str) -> None:
    assert command in way_out(status, "helm")
