"""Helm, as a user would type it, with the chart of this tree."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from deploy.release import CHART, NAMESPACE
from deploy.release import NAME as RELEASE
from support.tools import find_tool


class Helm:
    """Runs one program of Helm, with a home of its own: what the user has set for theirs does not count."""

    def __init__(self, program: str, home: Path) -> None:
        self.program = program
        self._environment = {**os.environ, "HELM_CONFIG_HOME": str(home), "HELM_DATA_HOME": str(home)}

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Return what it said."""
        return subprocess.run(
            [self.program, *arguments],
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Return its output; fail with its own words."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def template(self, *arguments: str, values: dict[str, Any] | None = None, chart: Path = CHART) -> str:
        """Return what a release in its usual namespace would install, as text."""
        given = ("--values", "-") if values is not None else ()
        text = yaml.safe_dump(values) if values is not None else None
        return self("template", RELEASE, str(chart), "--namespace", NAMESPACE, *given, *arguments, stdin=text)

    def refusal(self, values: dict[str, Any]) -> str:
        """Return why values are refused."""
        arguments = ("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-")
        done = self.run(*arguments, stdin=yaml.safe_dump(values))
        assert done.returncode != 0, "the values were taken"
        return done.stderr


def find_helm() -> str:
    """Return the program: what LORA_HELM names, or the pinned one, which is built the first time."""
    return find_tool("helm")


def objects_of(text: str) -> list[dict[str, Any]]:
    """Return the objects of a rendering."""
    return [each for each in yaml.safe_load_all(text) if each]
