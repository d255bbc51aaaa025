"""Flags and variables of the dashboard."""

import pytest

from lora_operator.dashboard.config import read_config


def test_the_defaults() -> None:
    config = read_config([], {})
    assert (config.auth, config.namespaces, config.hosts, config.port) == ("serviceaccount", (), (), 8080)


def test_flags_win_over_variables() -> None:
    environment = {"LORA_NAMESPACES": "x, y", "LORA_DASHBOARD_AUTH": "passthrough", "LORA_DASHBOARD_HOSTS": "A.example"}
    config = read_config([], environment)
    assert (config.auth, config.namespaces, config.hosts) == ("passthrough", ("x", "y"), ("a.example",))
    assert read_config(["--namespace=z", "--auth=serviceaccount"], environment).namespaces == ("z",)


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {"LORA_DASHBOARD_AUTH": "none"}, "LORA_DASHBOARD_AUTH: 'none' is none of serviceaccount, passthrough"),
        (["--auth=none"], {}, "invalid choice"),
        (["--namespace=../x"], {}, "--namespace: write a name of Kubernetes"),
    ],
)
def test_what_is_wrong_ends_it_with_a_line(
    arguments: list[str], environment: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_config(arguments, environment)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_page_can_be_for_the_pod_alone_while_the_kubelet_sees_its_health() -> None:
    config = read_config(["--listen=127.0.0.1", "--health-listen=0.0.0.0"], {})
    assert (config.listen, config.health_listen) == ("127.0.0.1", "0.0.0.0")
    assert read_config(["--listen=127.0.0.1"], {}).health_listen == "127.0.0.1"
