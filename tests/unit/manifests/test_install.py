"""What is installed: least rights, a restricted pod, and files in the tree that say what the types say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.__main__ import generated_files
from generate.install import NAMESPACE, install_objects
from lora_api.lorajob import LoRAJobSpec
from lora_api.support import unsupported_fields

SAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "samples"


def the(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in install_objects() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def test_the_files_in_the_tree_are_what_the_types_say() -> None:
    assert [path for path, content in generated_files().items() if path.read_text() != content] == []


GRANTED = [
    (group, resource, verb)
    for rule in the("ClusterRole", "lora-operator")["rules"]
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
]


def test_the_operator_has_no_wildcard_no_secrets_and_no_exec() -> None:
    assert not [word for right in GRANTED for word in right if "*" in word]
    assert {verb for _, _, verb in GRANTED} <= {"get", "list", "watch", "create", "patch", "update"}
    assert not {"secrets", "pods/exec", "serviceaccounts/token"} & {resource for _, resource, _ in GRANTED}


def test_the_operator_may_never_write_a_spec_of_a_user() -> None:
    assert {verb for _, resource, verb in GRANTED if resource == "lorajobs"} == {"get", "list", "watch"}


def test_the_operator_pod_is_restricted() -> None:
    pod = the("Deployment", "lora-operator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["resources"]["limits"]["memory"]
    labels = the("Namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_is_valid_and_supported(sample: Path) -> None:
    for document in yaml.safe_load_all(sample.read_text()):
        assert unsupported_fields(LoRAJobSpec.model_validate(document["spec"])) == []
