"""Names by which the page answers."""

import pytest

from lora_operator.dashboard.hosts import is_allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("10.1.2.3", True),
        ("lora-operator-dashboard", True),
        ("lora-operator-dashboard.lora-system.svc", True),
        ("lora-operator-dashboard.lora-system.svc.cluster.local:80", True),
        ("LoRA.example.org", True),
        ("lora.example.org:443", True),
        ("attacker.example", False),
        ("lora.example.org.attacker.example", False),
        ("localhost.attacker.example:8080", False),
        ("127.0.0.1.attacker.example", False),
        ("", False),
        (":8080", False),
    ],
)
def test_a_foreign_name_is_refused(host: str, allowed: bool) -> None:
    assert is_allowed(host, {"lora.example.org"}) is allowed
