"""The workflows as actionlint reads them: GitHub itself says what is wrong with one only once it is to run."""

import subprocess
from pathlib import Path

import pytest

from support.tools import ROOT, find_tool

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
ALONE = ("-no-color", "-shellcheck=", "-pyflakes=")
"""What else is installed changes nothing of what is found."""


@pytest.fixture(scope="module")
def actionlint() -> str:
    """Return the program; it is built the first time."""
    return find_tool("actionlint")


def lint(program: str, *files: Path) -> str:
    """Return what it finds; nothing, if it finds nothing."""
    done = subprocess.run([program, *ALONE, *map(str, files)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert (done.returncode == 1) == bool(done.stdout)
    return done.stdout


def test_the_workflows_are_sound(actionlint: str) -> None:
    assert WORKFLOWS
    assert lint(actionlint, *WORKFLOWS) == ""


@pytest.mark.parametrize(
    ("sound", "broken", "finding"),
    [
        ("${{ steps.names.outputs.version }}", "${{ steps.names.output.version }}", "output"),
        ("needs: images", "needs: image", 'job "image"'),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-24.40", "ubuntu-24.40"),
    ],
)
def test_what_would_fail_at_a_release_is_found(
    actionlint: str, tmp_path: Path, sound: str, broken: str, finding: str
) -> None:
    text = next(each for each in WORKFLOWS if each.stem == "release").read_text()
    assert sound in text
    file = tmp_path / "release.yaml"
    file.write_text(text.replace(sound, broken))
    assert finding in lint(actionlint, file)
