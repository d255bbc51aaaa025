"""What the Deployment of an operator tells of its settings, held against what the operator itself makes of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_cli.commands.plan import default_trainer_image
from lora_cli.deployment import ConfigPlace, OperatorDeployment, is_operator, read_deployment
from lora_operator.app.config import read_config

Document = dict[str, Any]
ROOT = Path(__file__).parents[3]
FILE = "/etc/lora-operator/config.yaml"
MOUNT = {"name": "config", "mountPath": "/etc/lora-operator"}
VOLUME = {"name": "config", "configMap": {"name": "policy"}}


def deployment(
    environment: dict[str, Any] | None = None,
    args: list[str] | None = None,
    mounts: list[Document] | None = None,
    volumes: list[Document] | None = None,
    **container: Any,
) -> Document:
    env = [{"name": name} | (value if isinstance(value, dict) else {"value": value})
           for name, value in (environment or {}).items()]  # fmt: skip
    operator = {"name": "operator", "env": env, "args": args or [], "volumeMounts": mounts or []} | container
    pod = {"containers": [{"name": "proxy"}, operator], "volumes": volumes or []}
    metadata = {"namespace": "lora-system", "name": "lora-operator"}
    return {"metadata": metadata, "spec": {"template": {"spec": pod}}}


def with_file(**changes: Any) -> OperatorDeployment:
    known: Document = {"environment": {"LORA_CONFIG": FILE}, "mounts": [MOUNT], "volumes": [VOLUME]}
    return read_deployment(deployment(**(known | changes)))


@pytest.mark.parametrize(
    ("environment", "args"),
    [
        ({"LORA_TRAINER_IMAGE": "a"}, []),
        ({"LORA_TRAINER_IMAGE": "a"}, ["--trainer-image", "b"]),
        ({"LORA_TRAINER_IMAGE": "a", "LORA_NAMESPACES": "x, y,"}, ["--log-level=debug", "--workers", "3"]),
        ({"LORA_NAMESPACES": "x"}, ["--trainer-image=b", "--namespace", "p", "--namespace=q"]),
        ({}, ["--trainer", "b", "--no-leader-election"]),
        ({"LORA_TRAINER_IMAGE": ""}, ["--trainer-image", "b"]),
    ],
)
def test_flags_and_variables_are_read_as_the_operator_reads_them(environment: dict[str, str], args: list[str]) -> None:
    found, own = read_deployment(deployment(environment, args)), read_config(args, environment)
    assert (found.trainer_image, found.namespaces) == (own.trainer_image, own.namespaces)
    assert (found.config, found.fault) == (None, "")


@pytest.mark.parametrize(
    ("labels", "environment", "expected"),
    [
        ({"app.kubernetes.io/name": "lora-operator"}, {}, True),
        ({"app.kubernetes.io/name": "renamed"}, {"LORA_TRAINER_IMAGE": "a"}, True),
        (None, {"LORA_TRAINER_IMAGE": "a"}, True),
        ({"app.kubernetes.io/name": "cert-manager"}, {"POD_NAMESPACE": "x"}, False),
    ],
)
def test_other_controllers_of_the_namespace_are_none_of_ours(
    labels: dict[str, str] | None, environment: dict[str, str], expected: bool
) -> None:
    document = deployment(environment)
    document["metadata"]["labels"] = labels
    assert is_operator(document) is expected


@pytest.mark.parametrize("value", [{"valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}, "$(OTHER)/trainer"])
def test_an_image_that_is_not_written_there_is_not_known(value: Any) -> None:
    assert read_deployment(deployment({"LORA_TRAINER_IMAGE": value})).trainer_image is None


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, ConfigPlace("policy", "config.yaml")),
        ({"environment": {}, "args": ["--config", FILE]}, ConfigPlace("policy", "config.yaml")),
        ({"args": ["--config=/etc/lora-operator/../lora-operator/other.yaml"]}, ConfigPlace("policy", "other.yaml")),
        ({"mounts": [{"name": "etc", "mountPath": "/etc"}, MOUNT]}, ConfigPlace("policy", "config.yaml")),
        (
            {"volumes": [{"name": "config", "configMap": {"name": "policy", "items": [
                {"key": "mine", "path": "config.yaml"}]}}]},
            ConfigPlace("policy", "mine"),
        ),
        ({"mounts": [{"name": "config", "mountPath": FILE, "subPath": "mine"}]}, ConfigPlace("policy", "mine")),
    ],
)  # fmt: skip
def test_the_file_is_a_key_of_a_config_map(changes: Document, place: ConfigPlace) -> None:
    found = with_file(**changes)
    assert (found.config, found.fault) == (place, "")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mounts": []}, f"its configuration file {FILE} lies in no volume"),
        (
            {"mounts": [{"name": "config", "mountPath": "/etc/lora"}]},
            f"its configuration file {FILE} lies in no volume",
        ),
        ({"volumes": [{"name": "config", "secret": {"secretName": "s"}}]}, "volume config, which is no ConfigMap"),
        ({"volumes": []}, "volume config, which is no ConfigMap"),
        (
            {"volumes": [{"name": "config", "configMap": {"name": "policy", "items": [{"key": "a", "path": "b"}]}}]},
            "is no key of ConfigMap policy",
        ),
        ({"environment": {"LORA_CONFIG": {"valueFrom": {}}}}, ""),
        (
            {"environment": {"LORA_CONFIG": {"valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}}},
            "LORA_CONFIG comes from another object (valueFrom)",
        ),
        ({"environment": {}, "envFrom": [{"configMapRef": {"name": "x"}}]}, "may come from another object (envFrom)"),
        ({"args": ["--config", "$(WHERE)/config.yaml"]}, "$(WHERE)/config.yaml is made of variables"),
    ],
)
def test_a_file_that_cannot_be_found_is_not_taken_for_none(changes: Document, fault: str) -> None:
    found = with_file(**changes)
    assert found.config is None
    assert fault in found.fault
    assert bool(found.fault) == bool(fault)


def test_a_container_of_any_name_and_a_flag_without_its_value() -> None:
    assert read_deployment(deployment({"LORA_TRAINER_IMAGE": "a"}, ["--config"], name="manager")).trainer_image is None
    alone = deployment({"LORA_TRAINER_IMAGE": "a"}, ["--config"])
    alone["spec"]["template"]["spec"]["containers"].pop(0)
    assert read_deployment(alone).trainer_image == "a"
    assert read_deployment({"metadata": alone["metadata"]}).trainer_image is None


def test_which_namespaces_are_served() -> None:
    assert read_deployment(deployment()).serves("any")
    some = read_deployment(deployment({"LORA_NAMESPACES": "a,b"}))
    assert (some.serves("a"), some.serves("c")) == (True, False)


def installed(path: Path) -> Document:
    documents = yaml.safe_load_all(path.read_text())
    return next(each for each in documents if each["kind"] == "Deployment" and "component" in str(each["metadata"]))


def test_the_manifests_of_this_release() -> None:
    found = read_deployment(installed(ROOT / "manifests/operator/operator.yaml"))
    assert found == OperatorDeployment("lora-system", "lora-operator", default_trainer_image(), (), None)


def test_a_release_of_the_chart_with_a_policy() -> None:
    found = read_deployment(installed(ROOT / "tests/integration/chart/golden/namespaced.yaml"))
    assert found.config is not None
    assert (found.config.key, found.fault, bool(found.namespaces)) == ("config.yaml", "", True)
