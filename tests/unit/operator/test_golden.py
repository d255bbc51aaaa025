"""Every object that the operator writes for a job, as files that one can read.

`pytest tests/unit/operator --update-golden` writes them anew; the diff is then part of the review.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.domain.observed import Stage
from support.samples import PREFLIGHT_DONE, PROGRESS, TRAIN_DONE
from support.world import World, ended, running

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(each.parent.name for each in GOLDEN.glob("*/lorajob.yaml"))


def play(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Take a job through a whole run, and return what was written, by file name."""
    world = World.of(document).settle()
    if world.observed.preflight:
        world.see_work(Stage.PREFLIGHT, ended(0, PREFLIGHT_DONE), complete=True).settle()
    world.see_work(Stage.TRAIN, running()).see(progress=PROGRESS).settle()
    world.see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).settle()
    files = {_file_name(each): each for each in world.applied.values()}
    return files | {"status.yaml": world.job.status.wire()}


def _file_name(document: dict[str, Any]) -> str:
    kind = document["kind"].lower()
    stage = document["metadata"]["labels"].get("lora-operator.io/stage")
    return f"{kind}-{stage}.yaml" if stage else f"{kind}.yaml"


class _Dumper(yaml.SafeDumper):
    """Writes long texts as blocks, and repeats instead of pointing."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(document: dict[str, Any]) -> str:
    """Return a document as the golden files have it."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_for_a_job(case: str, update_golden: bool) -> None:
    folder = GOLDEN / case
    written = {name: dump(each) for name, each in play(yaml.safe_load((folder / "lorajob.yaml").read_text())).items()}
    if update_golden:
        for stale in folder.glob("*.yaml"):
            if stale.name not in {*written, "lorajob.yaml"}:
                stale.unlink()
        for name, text in written.items():
            (folder / name).write_text(text)
    found = {each.name: each.read_text() for each in folder.glob("*.yaml") if each.name != "lorajob.yaml"}
    assert written == found, f"pytest tests/unit/operator --update-golden writes tests/golden/{case} anew"


def test_there_are_cases() -> None:
    assert {"minimal", "cpu", "everything", "several-gpus"} <= set(CASES)
