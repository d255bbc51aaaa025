"""What must hold of every pod, of every field of the API, and of every line of the trainer, whoever adds the next."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.crd import all_crds

ROOT = Path(__file__).resolve().parents[3]
GOLDEN_JOBS = sorted((ROOT / "tests" / "golden").glob("*/job-*.yaml"))
TRAINER_SOURCES = sorted((ROOT / "trainer").rglob("*.py"))


def test_there_is_something_to_look_at() -> None:
    assert len(GOLDEN_JOBS) > 5
    assert len(TRAINER_SOURCES) > 30


@pytest.mark.parametrize("path", GOLDEN_JOBS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_pod_is_locked_down(path: Path) -> None:
    pod = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"} & pod.keys()
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        assert container["resources"]["limits"]["memory"], "no limit of the CPU: it would only slow the loader down"
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}


@pytest.mark.parametrize("path", GOLDEN_JOBS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_volume_is_bounded_or_named_by_the_user(path: Path) -> None:
    for volume in yaml.safe_load(path.read_text())["spec"]["template"]["spec"]["volumes"]:
        (kind,) = volume.keys() - {"name"}
        assert kind in {"emptyDir", "downwardAPI", "configMap", "persistentVolumeClaim"}
        assert kind != "emptyDir" or volume[kind]["sizeLimit"]


def properties(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every property below a schema, by its path."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", each
        yield from properties(each, f"{path}.{name}")
    for word, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(word), dict):
            yield from properties(schema[word], path + suffix)


SPEC_FIELDS = [
    found
    for crd in all_crds().values()
    for version in crd["spec"]["versions"]
    for found in properties(
        version["schema"]["openAPIV3Schema"]["properties"]["spec"], crd["spec"]["names"]["kind"] + ".spec"
    )
]


def test_no_field_can_name_another_namespace() -> None:
    assert len(SPEC_FIELDS) > 100
    assert [path for path, _ in SPEC_FIELDS if "namespace" in path.rsplit(".", 1)[1].lower()] == []


def test_every_reference_is_a_name_and_no_more() -> None:
    references = {path: schema for path, schema in SPEC_FIELDS if path.endswith(("Ref", "Secrets"))}
    assert references.keys() >= {
        "LoRAJob.spec.baseModel.tokenSecretRef",
        "LoRAJob.spec.storage.credentialsSecretRef",
        "LoRAJob.spec.pod.imagePullSecrets",
        "LoRAAdapter.spec.source.storage.credentialsSecretRef",
    }
    for schema in references.values():
        assert schema.get("items", schema)["properties"].keys() <= {"name", "key"}


def test_only_affinity_is_free_of_form() -> None:
    """Its podAffinity may name namespaces. That places a pod near others; it reads nothing of theirs."""
    free = [path for path, schema in SPEC_FIELDS if schema.get("x-kubernetes-preserve-unknown-fields")]
    assert free == ["LoRAJob.spec.scheduling.affinity"]


CALLS = [
    (f"{path.relative_to(ROOT)}:{node.lineno}", node)
    for path in TRAINER_SOURCES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call)
]


def test_code_that_comes_with_a_model_is_never_run() -> None:
    said = [(where, word.value) for where, call in CALLS for word in call.keywords if word.arg == "trust_remote_code"]
    assert said, "it is refused in so many words"
    assert [where for where, value in said if ast.unparse(value) != "False"] == []
    words = [path for path in TRAINER_SOURCES if '"trust_remote_code"' in path.read_text()]
    assert words == [], "no way around by a dictionary of arguments"


def test_weights_are_read_from_safetensors_only() -> None:
    """A pickle runs code when it is read."""
    unsafe = {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "dill.load", "torch.hub.load"}
    assert [where for where, call in CALLS if ast.unparse(call.func) in unsafe] == []
    imports = [
        path
        for path in TRAINER_SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and {"pickle", "joblib", "dill", "marshal", "shelve"}
        & {getattr(node, "module", None), *(each.name for each in node.names)}
    ]
    assert imports == []
    allowed = [where for where, call in CALLS for word in call.keywords if word.arg == "allow_pickle"]
    assert allowed == []


def test_models_are_loaded_with_safetensors_asked_for() -> None:
    loads = [call for _, call in CALLS if ast.unparse(call.func) == "getattr(transformers, auto_model).from_pretrained"]
    assert loads
    for call in loads:
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert (said["use_safetensors"], said["local_files_only"]) == ("True", "True")
