"""Flags, health and rights of the process."""

import pytest

from lora_operator.app.config import read_config
from lora_operator.app.handlers import operator_settings
from lora_operator.app.probes import health
from lora_operator.cluster.permissions import RULES
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.queue import WorkQueue
from lora_operator.reconcile.resync import Resync


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


def test_health_fails_when_the_queue_or_the_resync_hangs() -> None:
    now = [0.0]
    queue: WorkQueue[Key] = WorkQueue(clock=lambda: now[0])
    resync = Resync(None, queue, namespaces=(), interval=450.0, clock=lambda: now[0])  # type: ignore[arg-type]
    assert health(queue, resync) == {"oldestItemSeconds": 0.0, "lastResyncSeconds": 0.0}

    queue.add(Key(Kind.LORAJOB, "team-a", "stuck"))
    now[0] = 301.0
    with pytest.raises(RuntimeError, match="waiting for 301 s"):
        health(queue, resync)
    queue.take()
    queue.finish(Key(Kind.LORAJOB, "team-a", "stuck"))
    now[0] = 1801.0
    with pytest.raises(RuntimeError, match="last resync"):
        health(queue, resync)


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
        assert "delete" not in rule["verbs"], "nothing is deleted in this release"
