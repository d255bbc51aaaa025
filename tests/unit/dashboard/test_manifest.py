"""The optional dashboard as it is installed: it can read two kinds and nothing else, in a pod that is locked down."""

from pathlib import Path
from typing import Any

import yaml

from generate.__main__ import HEADER, to_yaml
from generate.dashboard import LABELS, NAME, VIEWERS_LABEL, Dashboard, dashboard_objects
from generate.install import LABELS as OPERATOR_LABELS

FILE = Path(__file__).resolve().parents[3] / "manifests" / "dashboard.yaml"
RELEASED = list(yaml.safe_load_all(FILE.read_text()))


def the(kind: str, objects: list[dict[str, Any]] = RELEASED) -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def kinds(dashboard: Dashboard) -> list[str]:
    return [each["kind"] for each in dashboard_objects(dashboard)]


def pod(objects: list[dict[str, Any]] = RELEASED) -> dict[str, Any]:
    return dict(the("Deployment", objects)["spec"]["template"]["spec"])


def test_the_file_in_the_tree_is_what_is_generated() -> None:
    assert FILE.read_text() == HEADER + to_yaml(dashboard_objects())


def test_it_may_read_its_two_kinds_and_nothing_else() -> None:
    assert the("ClusterRole")["rules"] == [
        {
            "apiGroups": ["lora-operator.io"],
            "resources": ["lorajobs", "loraadapters"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    assert the("ClusterRoleBinding")["subjects"] == [
        {"kind": "ServiceAccount", "name": NAME, "namespace": "lora-system"}
    ]


def test_with_the_tokens_of_viewers_it_has_no_rights_at_all() -> None:
    found = kinds(Dashboard(auth="passthrough"))
    assert found == ["ServiceAccount", "NetworkPolicy", "Service", "Deployment"]


def test_with_named_namespaces_it_has_rights_there_alone() -> None:
    objects = dashboard_objects(Dashboard(namespaces=("team-a", "team-b")))
    rights = [(each["kind"], each["metadata"].get("namespace")) for each in objects if "rbac" in each["apiVersion"]]
    assert rights == [
        ("Role", "team-a"),
        ("RoleBinding", "team-a"),
        ("Role", "team-b"),
        ("RoleBinding", "team-b"),
    ]
    (container,) = pod(objects)["containers"]
    assert container["args"] == ["--auth=serviceaccount", "--namespace=team-a", "--namespace=team-b"]


def test_its_pod_is_restricted() -> None:
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["resources"]["limits"]["memory"]


def test_its_labels_are_not_those_of_the_operator() -> None:
    """Else the operator's Service, policy and Deployment would take it for one of theirs."""
    assert LABELS != OPERATOR_LABELS
    assert the("Service")["spec"]["selector"] == the("Deployment")["spec"]["selector"]["matchLabels"] == LABELS


def test_only_labelled_namespaces_reach_the_page() -> None:
    page, health = the("NetworkPolicy")["spec"]["ingress"]
    assert page == {
        "from": [{"namespaceSelector": {"matchLabels": VIEWERS_LABEL}}],
        "ports": [{"protocol": "TCP", "port": 8080}],
    }
    assert health == {"ports": [{"protocol": "TCP", "port": 8081}]}
