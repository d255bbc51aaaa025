"""What a shell is told may follow."""

import subprocess

import pytest

from lora_cli import main
from lora_cli.cluster.connection import LORAJOBS, Resource
from lora_cli.complete import FILES, NO_FILES, complete


def names(resource: Resource) -> list[str]:
    return ["bot", "other"] if resource is LORAJOBS else ["bot", "served"]


@pytest.mark.parametrize(
    ("words", "candidates", "directive"),
    [
        (["w"], ["watch", "why"], NO_FILES),
        (["-n", "team-a", "wa"], ["watch"], NO_FILES),
        (["watch", ""], ["bot", "other"], NO_FILES),
        (["why", "s"], ["served"], NO_FILES),
        (["verify", ""], ["bot", "served"], NO_FILES),
        (["watch", "bot", ""], [], NO_FILES),
        (["watch", "-n", "team-a", "o"], ["other"], NO_FILES),
        (["logs", "--st"], ["--stage"], NO_FILES),
        (["logs", "--stage", ""], ["preflight", "train"], NO_FILES),
        (["list", "-o", "j"], ["json"], NO_FILES),
        (["submit", "-f", ""], [], FILES),
        (["plan", "--operator-config", ""], [], FILES),
        (["plan", "--operator-"], ["--operator-config", "--operator-namespace"], NO_FILES),
        (["completion", "f"], ["fish"], NO_FILES),
        (["logs", "-f", "bo"], ["bot"], NO_FILES),
    ],
)
def test_what_may_follow(words: list[str], candidates: list[str], directive: int) -> None:
    assert complete(main.build_parser(), words, names) == (candidates, directive)


def test_the_answer_has_the_form_that_kubectl_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["__complete", "wa"]) == 0
    assert capsys.readouterr().out == "watch\n:4\n"


def test_without_a_cluster_no_name_is_completed_and_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["__complete", "watch", "--kubeconfig", "/no/such", ""]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (":4\n", "")


@pytest.mark.parametrize("shell", ["bash", "kubectl"])
def test_the_scripts_are_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    checked = subprocess.run(["bash", "-n"], input=capsys.readouterr().out, text=True, check=False)
    assert checked.returncode == 0
