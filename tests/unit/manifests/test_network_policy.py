"""Which flows the shipped NetworkPolicies allow. That a cluster's network enforces them is the network's affair."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.install import LABELS
from generate.network_policy import TRAINER_LABELS, Opening, operator_policy, trainer_policy

ROOT = Path(__file__).resolve().parents[3]
INFERENCE = {"lora-operator.io/inject": "true"}
TEMPLATES = [
    yaml.safe_load(path.read_text())["spec"]["template"] for path in sorted(ROOT.glob("tests/golden/*/job-*.yaml"))
]


def flows(policy: dict[str, Any], direction: str) -> list[tuple[str, str]]:
    """Return who may be met on which ports, in short words."""
    peers = {"ingress": "from", "egress": "to"}[direction]
    return [
        (_who(peer), _ports(rule))
        for rule in policy["spec"][direction]
        for peer in rule.get(peers, [{"ipBlock": {"cidr": "anywhere"}}])
    ]


def _who(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    labels = peer.get("podSelector", {}).get("matchLabels")
    known = {str(LABELS): "operator", str(TRAINER_LABELS): "trainers", str(INFERENCE): "inference pods", "None": "pods"}
    pods = known[str(labels)]
    if "namespaceSelector" not in peer:
        return f"{pods} here"
    chosen = peer["namespaceSelector"].get("matchLabels") or {"": "anywhere"}
    return f"{pods} in " + ",".join(f"{key}={value}" if value == "true" else value for key, value in chosen.items())


def _ports(rule: dict[str, Any]) -> str:
    return " ".join(f"{each['protocol']}/{each['port']}" for each in rule.get("ports", [])) or "all"


DNS = [("pods in kube-system", "UDP/53 TCP/53"), ("169.254.20.10/32", "UDP/53 TCP/53")]


def test_flows_of_a_trainer() -> None:
    policy = trainer_policy()
    assert flows(policy, "ingress") == [
        ("operator in lora-system", "TCP/9400"),
        ("pods in lora-operator.io/metrics=true", "TCP/9400"),
        ("trainers here", "all"),
    ]
    assert flows(policy, "egress") == [
        *DNS,
        ("0.0.0.0/0", "TCP/443"),
        ("::/0", "TCP/443"),
        ("trainers here", "all"),
    ]


def test_flows_of_the_operator() -> None:
    assert flows(operator_policy(), "ingress") == [
        ("anywhere", "TCP/8080"),
        ("anywhere", "TCP/9443"),
        ("pods in lora-operator.io/metrics=true", "TCP/8081"),
    ]
    assert flows(operator_policy(), "egress") == [
        *DNS,
        ("anywhere", "TCP/443 TCP/6443"),
        ("trainers in anywhere", "TCP/9400"),
        ("inference pods in anywhere", "TCP/9401"),
    ]


def test_named_openings_replace_the_internet() -> None:
    openings = (Opening.parse("10.1.2.0/24:9000"), Opening.parse("[fd00::]/8:443"))
    policy = trainer_policy("team-a", openings)
    assert policy["metadata"]["namespace"] == "team-a"
    assert flows(policy, "egress")[2:-1] == [("10.1.2.0/24", "TCP/9000"), ("fd00::/8", "TCP/443")]


@pytest.mark.parametrize("text", ["", "10.0.0.0/8", "10.0.0.1/8:443", "s3.example:443", "10.0.0.0/8:0", "10.0.0.0/8:x"])
def test_an_opening_is_a_cidr_and_a_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Opening.parse(text)


def test_both_policies_close_both_directions() -> None:
    for policy in (trainer_policy(), operator_policy()):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_policy_selects_every_pod_that_the_operator_makes() -> None:
    assert TEMPLATES
    for template in TEMPLATES:
        assert TRAINER_LABELS.items() <= template["metadata"]["labels"].items()
