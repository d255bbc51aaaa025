"""What the project takes in, and what its workflows may do: pinned, explained, with no more rights than they need."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
WRITES = {
    "release/images": {"packages", "id-token"},
    "release/publish": {"contents", "packages", "id-token"},
}
"""Rights to write of each job that has any."""

Object = dict[str, Any]


def workflow(path: Path) -> Object:
    # `on` is a boolean to YAML 1.1.
    loaded: Object = {str(key).lower(): value for key, value in yaml.safe_load(path.read_text()).items()}
    return loaded


JOBS = [(path, name, job) for path in WORKFLOWS for name, job in workflow(path)["jobs"].items()]


def test_there_is_a_workflow_for_changes_and_one_for_releases() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "release"]


def test_every_action_is_named_by_its_full_commit_and_says_which_release_that_is() -> None:
    found: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.+)", path.read_text()):
            match = re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
            assert match, f"{path.name}: {line}"
            found.setdefault(match[1], set()).add(f"{match[2]} {match[3]}")
    assert found
    assert {name: pins for name, pins in found.items() if len(pins) > 1} == {}, "one release of an action everywhere"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_right_to_write_and_never_runs_foreign_code_with_secrets(path: Path) -> None:
    loaded = workflow(path)
    assert loaded["permissions"] == {"contents": "read"}
    assert loaded["defaults"] == {"run": {"shell": "bash"}}
    assert not {"pull_request_target", "workflow_run"} & set(loaded["true"])
    assert "secrets." not in path.read_text()


@pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_job_has_a_bound_and_the_rights_that_it_uses(path: Path, name: str, job: Object) -> None:
    assert job["timeout-minutes"]
    writes = {right for right, level in job.get("permissions", {}).items() if level == "write"}
    assert writes == WRITES.get(f"{path.stem}/{name}", set())


@pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_step_leaves_no_token_behind_and_puts_no_expression_into_a_script(path: Path, name: str, job: Object) -> None:
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "a value with a quote in it would be run"


def test_ci_runs_what_a_contributor_runs() -> None:
    commands = [step.get("run", "") for _, job in workflow(WORKFLOWS[0])["jobs"].items() for step in job["steps"]]
    assert {"make lint unit", "make test"} <= set(commands)


def test_a_release_builds_every_image_that_there_is() -> None:
    built = {each["part"] for each in workflow(WORKFLOWS[1])["jobs"]["images"]["strategy"]["matrix"]["include"]}
    assert built == {path.parent.name for path in ROOT.glob("*/Dockerfile")}


def dependency_lines() -> list[str]:
    """Return the lines of pyproject.toml that name a dependency of an extra or of all parts."""
    text = (ROOT / "pyproject.toml").read_text()
    part = text[text.index("\ndependencies = [") : text.index("[project.scripts]")]
    return re.findall(r'^    ".+$', part, flags=re.MULTILINE)


def test_every_dependency_has_its_reason_beside_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for names in project["optional-dependencies"].values() for each in names]
    lines = dependency_lines()
    assert len(lines) == len(extras) + len(project["dependencies"]), "one line each"
    own = [each for each in lines if each.strip().startswith('"lora-operator[')]
    assert [each for each in lines if not re.search(r'", +# \w.{8,}', each)] == own


LOCKED = sorted({*(ROOT / "requirements").glob("*.txt")} - {ROOT / "requirements" / "constraints.txt"})
"""But for what the resolver is told."""


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.stem)
def test_every_requirement_is_locked_with_hashes(path: Path) -> None:
    text = path.read_text()
    packages = re.findall(r"^[a-z0-9][\w.\[\]-]*==", text, flags=re.MULTILINE)
    assert packages
    assert len(re.findall(r"^[a-z0-9][\w.\[\]-]*==[^\n]*\\\n +--hash=sha256:", text, flags=re.MULTILINE)) == len(
        packages
    )
    assert "://" not in text, "an address of an index"


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_an_image_installs_nothing_that_is_not_locked(path: Path) -> None:
    installs = re.findall(r"pip[^\n]* install ([^\n]*(?:\\\n[^\n]*)*)", path.read_text())
    assert installs
    assert [each for each in installs if "--require-hashes" not in each and "--no-index" not in each] == []
