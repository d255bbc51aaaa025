"""Flags, health and rights of the process, and what of a watch makes it look again."""

import asyncio
import socket
import urllib.error
import urllib.request

import pytest

from lora_operator.app.config import read_config
from lora_operator.app.handlers import operator_settings
from lora_operator.app.probes import Health, serve_health
from lora_operator.app.session import Contact
from lora_operator.cluster.permissions import RULES
from support.apiserver import free_port


def test_flags_win_over_the_environment() -> None:
    environment = {"LORA_TRAINER_IMAGE": "a", "LORA_NAMESPACES": "x, y", "LORA_WORKERS": "3"}
    config = read_config(["--trainer-image", "b"], environment)
    assert (config.trainer_image, config.namespaces, config.workers) == ("b", ("x", "y"), 3)
    assert read_config(["--namespace", "p", "--namespace", "q"], environment).namespaces == ("p", "q")


def test_without_a_trainer_image_there_is_no_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config([], {})
    assert "LORA_TRAINER_IMAGE" in capsys.readouterr().err


@pytest.mark.parametrize(("environment", "route"), [({}, "proxy"), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "direct")])
def test_pods_are_reached_directly_within_a_cluster_only(environment: dict[str, str], route: str) -> None:
    assert read_config(["--trainer-image", "a"], environment).progress_route == route


def test_health_fails_while_an_age_is_above_its_limit() -> None:
    ages = {"queue": 0.0, "resync": 1799.04}
    health = Health()
    health.expect("queue", lambda: ages["queue"], 300.0)
    health.expect("resync", lambda: ages["resync"], 1800.0)
    assert health.report() == {"role": "starting", "queue": 0.0, "resync": 1799.0}
    ages["queue"] = 301.0
    assert health.report()["failing"] == ["queue"]
    ages["queue"] = 1.0
    assert "failing" not in health.report()


def test_probes_answer_with_the_status_that_kubernetes_reads() -> None:
    health, port, age = Health(), free_port(), [0.0]
    health.expect("queue", lambda: age[0], 300.0)
    seen: list[int] = []

    def ask(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    async def scenario() -> None:
        async with serve_health(health, "127.0.0.1", port):
            seen.append(await asyncio.to_thread(ask, "/healthz"))
            seen.append(await asyncio.to_thread(ask, "/readyz"))
            health.reached()
            age[0] = 301.0
            seen.append(await asyncio.to_thread(ask, "/readyz"))
            seen.append(await asyncio.to_thread(ask, "/healthz"))

    asyncio.run(scenario())
    assert seen == [200, 503, 200, 500]


class Watches:
    """A contact with a clock that stands still, and the gaps that it tells of."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gaps = 0
        self.contact = Contact(on_gap=self._gap, clock=lambda: self.now)

    def _gap(self) -> None:
        self.gaps += 1

    def ask(self, path: str = "/pods", status: int = 200, *, watch: bool = True, takes: float = 0.0) -> None:
        self.contact.asked(path)
        self.now += takes
        self.contact.answered(path, status, watch=watch)


def test_the_first_list_and_a_watch_that_is_opened_again_are_no_gap() -> None:
    watches = Watches()
    watches.ask(watch=False)
    for _ in range(3):
        watches.ask()
    assert watches.gaps == 0


def test_a_list_after_a_watch_is_a_gap_because_what_was_deleted_is_not_in_it() -> None:
    watches = Watches()
    watches.ask(watch=False)
    watches.ask()
    watches.ask("/jobs", watch=False)
    assert watches.gaps == 0, "the first of another kind"
    watches.ask(watch=False)
    assert watches.gaps == 1


def test_a_watch_that_comes_back_late_is_a_gap_because_failed_passes_wait() -> None:
    watches = Watches()
    watches.ask()
    watches.contact.asked("/pods")
    watches.now += 4
    watches.ask(status=503)
    watches.now += 2
    assert watches.gaps == 0
    watches.ask()
    assert watches.gaps == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_watch_that_is_refused_is_blind(status: int) -> None:
    watches = Watches()
    watches.ask(takes=1.0)
    watches.now += 500
    assert watches.contact.blind_seconds == 0, "an open watch may be silent"
    watches.ask(status=status)
    watches.now += 60
    watches.ask(status=status)
    watches.now += 60
    watches.ask("/jobs")
    assert watches.contact.blind_seconds == 120, "the others do not make up for it"


def test_a_request_without_an_answer_is_blindness() -> None:
    watches = Watches()
    watches.contact.asked("/pods")
    watches.now += 30
    assert watches.contact.blind_seconds == 30


def test_a_dead_peer_is_noticed_by_the_kernel() -> None:
    from lora_operator.app.session import _open_socket

    opened = _open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)))
    with opened:
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_kopf_is_told_to_write_nothing() -> None:
    settings = operator_settings()
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert isinstance(settings.watching.server_timeout, int), "the API server takes no fraction"


def test_no_right_is_a_wildcard_and_none_reads_secrets() -> None:
    for rule in RULES:
        for words in rule.values():
            assert "*" not in words
        assert "secrets" not in rule["resources"]
