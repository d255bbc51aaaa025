"""What is installed: least rights, a restricted pod, and files in the tree that say what the types say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.__main__ import generated_files
from generate.install import LEASE_ROLE, NAME, NAMESPACE, Installation, install_objects
from lora_api.lorajob import LoRAJobSpec
from lora_operator.cluster.permissions import LEASE_NAME, OWN_NAMESPACE_RULES, RULES

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
RELEASED = list(yaml.safe_load_all((MANIFESTS / "install.yaml").read_text()))
TEAMS = ("team-a", "team-b")
FORBIDDEN = {
    "secrets",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/proxy",
    "pods/ephemeralcontainers",
    "nodes/proxy",
    "serviceaccounts/token",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
}
"""Each of them leads to the credentials of a user, or to rights of one's own making."""


def the(kind: str, name: str, objects: list[dict[str, Any]] = RELEASED, namespace: str | None = None) -> dict[str, Any]:
    (found,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
        and namespace in (None, each["metadata"].get("namespace"))
    )
    return found


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = the("Deployment", NAME, objects)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def env(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(objects)["env"]}


def test_the_files_in_the_tree_are_what_the_types_say() -> None:
    assert [path for path, content in generated_files().items() if path.read_text() != content] == []


def test_the_released_roles_are_the_table() -> None:
    assert the("ClusterRole", NAME)["rules"] == RULES
    assert the("Role", LEASE_ROLE, namespace=NAMESPACE)["rules"] == OWN_NAMESPACE_RULES


def test_the_operator_is_bound_to_these_roles_and_to_no_other() -> None:
    bindings = [each for each in RELEASED if each["kind"].endswith("Binding")]
    assert [(each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"]) for each in bindings] == [
        ("ClusterRoleBinding", None, NAME),
        ("RoleBinding", NAMESPACE, LEASE_ROLE),
    ]
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    assert all(each["subjects"] == [account] for each in bindings)


GRANTED = [
    (group, resource, verb)
    for rule in [*RULES, *OWN_NAMESPACE_RULES]
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
]


def test_no_right_is_a_wildcard_or_leads_to_a_secret() -> None:
    assert not [word for right in GRANTED for word in right if "*" in word]
    assert not FORBIDDEN & {resource for _, resource, _ in GRANTED}
    assert {verb for _, _, verb in GRANTED} <= {"get", "list", "watch", "create", "patch", "update", "delete"}


def test_the_operator_neither_makes_nor_deletes_the_jobs_of_users() -> None:
    """Patch is for the finalizer. RBAC cannot say so; that the operator writes no spec is tested with the operator."""
    assert {verb for _, resource, verb in GRANTED if resource == "lorajobs"} == {"get", "list", "watch", "patch"}
    assert {verb for _, resource, verb in GRANTED if resource == "pods"} <= {"get", "list", "watch"}


def test_the_lease_is_one_by_name_in_the_operators_own_namespace() -> None:
    assert not [each for each in RULES if "leases" in each["resources"]]
    named, create = OWN_NAMESPACE_RULES
    assert named["resourceNames"] == [LEASE_NAME]
    assert create["verbs"] == ["create"]


def test_a_namespaced_operator_has_roles_where_it_serves_and_nowhere_else() -> None:
    objects = install_objects(Installation(namespaces=TEAMS))
    for team in TEAMS:
        assert the("Role", NAME, objects, team)["rules"] == RULES
        assert the("RoleBinding", NAME, objects, team)["roleRef"]["kind"] == "Role"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] == "Role"} == {*TEAMS, NAMESPACE}
    assert [each for each in objects if each["kind"] == "ClusterRoleBinding"] == []
    users = {each["metadata"]["name"] for each in objects if each["kind"] == "ClusterRole"}
    assert users == {f"{NAME}-edit", f"{NAME}-view"}, "roles of users, which the operator is not bound to"
    assert env(objects)["LORA_NAMESPACES"] == "team-a,team-b"
    assert "LORA_NAMESPACES" not in env(RELEASED)


def test_a_configuration_file_is_mounted_and_its_change_makes_a_new_pod() -> None:
    def template(config: str) -> dict[str, Any]:
        objects = install_objects(Installation(config=config))
        assert the("ConfigMap", NAME, objects)["data"] == {"config.yaml": config}
        return dict(the("Deployment", NAME, objects)["spec"]["template"])

    first = template("policy: {}")
    (trainer,) = first["spec"]["containers"]
    assert {"name": "LORA_CONFIG", "value": "/etc/lora-operator/config.yaml"} in trainer["env"]
    assert {"name": "config", "mountPath": "/etc/lora-operator", "readOnly": True} in trainer["volumeMounts"]
    assert first == template("policy: {}")
    assert first != template("policy: {rules: []}")
    assert "LORA_CONFIG" not in env(RELEASED), "without a file nothing may look for one"


def test_an_update_keeps_the_old_pod_until_the_new_one_is_ready() -> None:
    spec = the("Deployment", NAME)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert env(RELEASED)["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_the_operator_pod_is_restricted() -> None:
    pod = the("Deployment", NAME)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(RELEASED)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container(RELEASED)["resources"]["limits"]["memory"]
    labels = the("Namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("sample", sorted((MANIFESTS / "samples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_is_valid(sample: Path) -> None:
    for document in yaml.safe_load_all(sample.read_text()):
        LoRAJobSpec.model_validate(document["spec"])
