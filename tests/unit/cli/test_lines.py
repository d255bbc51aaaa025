"""What the command line understands, and what a local run shows."""

import json

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.messages import Activity, AdapterResult, Progress, TerminationMessage
from lora_cli import main
from lora_cli.display import Display, preflight_lines, result_json, result_lines
from lora_cli.trainer import SERVED, served_port
from support.samples import PREFLIGHT_DONE

ADAPTER = AdapterResult(
    uri="file:///out/default/bot/adapters/sha256-ab",
    digest="sha256:ab",
    bytes=7,
    metrics={"trainLoss": 0.5, "evalLoss": 1.25},
)
DONE = TerminationMessage(reason="Finished", message="published", step=6, adapter=ADAPTER)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["runs", "-f", "a"], 2),
        (["list", "--all"], 2),
        (["watch"], 2),
        (["plot", "bot"], 2),
        (["run"], ExitCode.INVALID_REQUEST),
        (["run", "-f", "a", "--gpu"], ExitCode.INVALID_REQUEST),
    ],
)
def test_a_wrong_command_line_says_how_it_is_used(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.run(arguments)
    assert caught.value.code == code
    assert "usage: kubectl lora" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["-n", "a", "list"], ["list", "-n", "a"], ["-n", "b", "list", "--namespace", "a"]]
)
def test_the_namespace_may_stand_before_or_behind_the_command(arguments: list[str]) -> None:
    chosen = main.build_parser().parse_args(arguments)
    assert (chosen.namespace, chosen.context, chosen.kubeconfig) == ("a", None, None)


def test_an_error_is_one_line_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "-f", "/no/such.yaml"]) == ExitCode.INVALID_REQUEST
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "kubectl-lora: /no/such.yaml: No such file or directory; name the file of a LoRAJob with -f\n"


@pytest.mark.parametrize(
    ("line", "port"),
    [
        (json.dumps({"message": SERVED, "port": 9400}), 9400),
        (json.dumps({"message": SERVED, "port": "9400"}), None),
        (json.dumps({"message": "step", "port": 9400}), None),
        ("[1]", None),
        ("Traceback (most recent call last):", None),
    ],
)
def test_the_port_is_found_in_the_log(line: str, port: int | None) -> None:
    assert served_port(line.encode()) == port


def test_the_result_is_uri_digest_and_metrics() -> None:
    assert result_lines(DONE) == [
        "adapter  file:///out/default/bot/adapters/sha256-ab",
        "digest   sha256:ab",
        "metrics  evalLoss 1.2500, trainLoss 0.5000",
    ]
    assert result_lines(TerminationMessage(reason="Interrupted", message="stopped")) == []


def test_the_preflight_says_what_it_found_and_warns() -> None:
    resolved = PREFLIGHT_DONE.preflight
    assert resolved is not None
    warned = PREFLIGHT_DONE.model_copy(update={"preflight": resolved.model_copy(update={"warnings": ["3 rows cut"]})})
    assert preflight_lines(warned) == [f"preflight: {PREFLIGHT_DONE.message}", "warning: 3 rows cut"]


def test_the_result_as_json_has_the_last_words_of_each_command() -> None:
    read = json.loads(result_json(0, {"preflight": PREFLIGHT_DONE, "train": DONE}))
    assert read["exitCode"] == 0
    assert read["train"]["adapter"]["digest"] == "sha256:ab"
    assert read["preflight"]["preflight"]["plan"]["totalSteps"] > 0


def test_without_a_terminal_each_activity_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display("bot")
    for activity in (Activity.LOADING_DATA, Activity.TRAINING, Activity.TRAINING, Activity.PUBLISHING):
        display.show(Progress(activity=activity))
    display.close()
    assert capsys.readouterr().err == "bot: reading data\nbot: training\nbot: publishing\n"
