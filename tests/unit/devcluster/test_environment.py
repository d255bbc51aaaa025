"""`env` is evaluated by shells and read by tests: its form is an interface."""

import json
import subprocess
from pathlib import Path

import pytest

from devcluster.cli import main
from devcluster.environment import given_variables, own_variables, shell_exports
from devcluster.settings import Paths

GIVEN = {
    "LORA_S3_ENDPOINT": "https://s3.example.com",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "LORA_OPERATOR_IMAGE": "example.com/operator:1",
    "LORA_AGENT_IMAGE": "example.com/agent:1",
    "LORA_TRAINER_IMAGE": "example.com/trainer:1",
}


def test_shell_gets_back_what_was_put_in() -> None:
    exports = shell_exports({"LORA_S3_ENDPOINT": 'it\'s "quoted" $HOME', "LORA_DEVCLUSTER_BIN": "/a b"})
    script = f'PATH=/usr/bin\n{exports}\nprintf "%s|%s" "$LORA_S3_ENDPOINT" "$PATH"'
    output = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == 'it\'s "quoted" $HOME|/a b:/usr/bin'


def test_own_cluster_names_images_by_digest(tmp_path: Path) -> None:
    where = Paths(state=tmp_path, binaries=Path("/bin"))
    where.images_file.write_text(json.dumps({"operator": "localhost:5000/lora-operator@sha256:1"}))
    where.s3_env.write_text("LORA_S3_ENDPOINT=http://10.244.0.1:7070\nAWS_REGION=us-east-1\n")
    variables = own_variables(where)
    assert variables["LORA_OPERATOR_IMAGE"] == "localhost:5000/lora-operator@sha256:1"
    assert variables["LORA_S3_ENDPOINT"] == "http://10.244.0.1:7070"
    assert "LORA_TRAINER_IMAGE" not in variables


def test_current_context_passes_on_only_what_the_user_gave() -> None:
    assert given_variables({**GIVEN, "HOME": "/root"}) == (GIVEN, "")
    without_trainer = {name: value for name, value in GIVEN.items() if name != "LORA_TRAINER_IMAGE"}
    assert given_variables(without_trainer)[1] == "CLUSTER=current: not set: LORA_TRAINER_IMAGE"


@pytest.mark.parametrize("command", ["up", "down", "images"])
def test_current_context_is_left_alone(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLUSTER", "current")
    assert main([command]) == 0
    assert capsys.readouterr().err == f"CLUSTER=current: `{command}` leaves your cluster as it is\n"
