"""What is installed: least rights, a restricted pod, and files in the tree that say what the types say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.__main__ import generated_files
from generate.install import AGENT_IMAGE, LEASE_ROLE, NAME, NAMESPACE, Installation, install_objects
from generate.webhook import STATIC_HEADER, WEBHOOK_PORT, WEBHOOK_ROLE, static_component
from lora_api.lorajob import LoRAJobSpec
from lora_operator.cluster.permissions import LEASE_NAME, OWN_NAMESPACE_RULES, RULES, WEBHOOK_NAME, WEBHOOK_RULES

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
    assert the("ClusterRole", WEBHOOK_ROLE)["rules"] == WEBHOOK_RULES


def test_the_operator_is_bound_to_these_roles_and_to_no_other() -> None:
    bindings = [each for each in RELEASED if each["kind"].endswith("Binding")]
    assert [(each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"]) for each in bindings] == [
        ("ClusterRoleBinding", None, NAME),
        ("RoleBinding", NAMESPACE, LEASE_ROLE),
        ("ClusterRoleBinding", None, WEBHOOK_ROLE),
    ]
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    assert all(each["subjects"] == [account] for each in bindings)


GRANTED = [
    (group, resource, verb)
    for rule in [*RULES, *OWN_NAMESPACE_RULES, *WEBHOOK_RULES]
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
    bound = [each["roleRef"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"]
    assert bound == [WEBHOOK_ROLE], "the webhook's entry has no namespace"
    roles = {each["metadata"]["name"] for each in objects if each["kind"] == "ClusterRole"}
    assert roles - {WEBHOOK_ROLE} == {f"{NAME}-edit", f"{NAME}-view"}, "roles of users, without a binding"
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


def entry(objects: list[dict[str, Any]] = RELEASED) -> dict[str, Any]:
    (found,) = the("MutatingWebhookConfiguration", WEBHOOK_NAME, objects)["webhooks"]
    return dict(found)


def test_the_webhook_is_asked_for_labelled_new_pods_and_for_nothing_else() -> None:
    webhook = entry()
    assert webhook["objectSelector"] == {"matchLabels": {"lora-operator.io/inject": "true"}}
    (rule,) = webhook["rules"]
    assert (rule["apiGroups"], rule["resources"], rule["operations"]) == ([""], ["pods"], ["CREATE"])
    assert "namespaceSelector" not in webhook
    assert (webhook["failurePolicy"], webhook["reinvocationPolicy"]) == ("Fail", "IfNeeded")
    assert (webhook["sideEffects"], webhook["timeoutSeconds"]) == ("None", 5)
    assert "caBundle" not in webhook["clientConfig"], "each replica adds its own, and applying this again keeps them"


def test_the_webhook_of_a_namespaced_operator_is_asked_for_its_namespaces_alone() -> None:
    (expression,) = entry(install_objects(Installation(namespaces=TEAMS)))["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(TEAMS)}


def test_pods_may_start_without_an_operator_if_an_administrator_wants_it() -> None:
    assert entry(install_objects(Installation(failure_policy="Ignore")))["failurePolicy"] == "Ignore"


def test_the_way_of_a_call_leads_to_the_port_of_the_operator() -> None:
    service = the("Service", "lora-operator-webhook")
    called = entry()["clientConfig"]["service"]
    assert (called["namespace"], called["name"], called["path"]) == (NAMESPACE, service["metadata"]["name"], "/inject")
    (port,) = service["spec"]["ports"]
    assert called["port"] == port["port"]
    assert {"name": port["targetPort"], "containerPort": WEBHOOK_PORT} in container(RELEASED)["ports"]
    labels = the("Deployment", NAME)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert env(RELEASED)["LORA_AGENT_IMAGE"] == AGENT_IMAGE


def test_an_operator_without_the_webhook_has_no_right_and_no_port_for_it() -> None:
    objects = install_objects(Installation(webhook=False))
    assert not [each for each in objects if "webhook" in each["kind"].lower() + each["metadata"]["name"]]
    assert [each["name"] for each in container(objects)["ports"]] == ["health", "metrics"]
    assert (env(objects)["LORA_WEBHOOK"], "LORA_AGENT_IMAGE" in env(objects)) == ("off", False)


def test_the_static_patch_is_what_the_webhook_makes() -> None:
    folder = MANIFESTS / "serving"
    patch = yaml.safe_load((folder / "static-patch.yaml").read_text())["spec"]["template"]
    (agent,) = patch["spec"]["initContainers"]
    (engine,) = patch["spec"]["containers"]
    assert (agent["name"], agent["restartPolicy"], agent["image"]) == ("lora-agent", "Always", AGENT_IMAGE)
    assert not {"image", "command", "args"} & engine.keys(), "a patch would replace what the author wrote"
    assert "lora-operator.io/adapters" not in patch["metadata"]["annotations"]
    assert "add --enable-lora --max-lora-rank=64 --max-loras=1" in STATIC_HEADER
    component = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert component == static_component()
    assert (folder / component["patches"][0]["path"]).exists()
