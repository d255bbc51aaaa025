"""The YAML of the documentation at a real API server, and the rows of data in it at the trainer's own readers.

A page is a promise that what it shows can be copied. Objects of foreign kinds, whose definitions are not here, are
checked as YAML with the parts that every object has. Links, anchors and parts of a spec are checked in
`tests/unit/manifests/test_docs.py`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat
from lora_api.training import Objective, Task
from lora_trainer.data.formats import ColumnNames, detect_format
from lora_trainer.data.readers import reader_of
from lora_trainer.data.records import read_records
from lora_trainer.data.rows import Record, Row, RowError
from lora_trainer.tasks import rules_of
from support.objects import Objects
from support.specs import SMALLEST

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "charts").rglob("*.md"),
        *(ROOT / "manifests").rglob("*.md"),
    ]
)
DATA_PAGE = ROOT / "docs" / "data.md"
FOREIGN = ("argoproj.io", "kustomize.toolkit.fluxcd.io", "kueue.x-k8s.io", "monitoring.coreos.com", "cert-manager.io")
"""Groups whose kinds a bare API server does not know, and kustomize's own, which is no object."""
CUT = re.compile(r"(sha256[:-])([0-9a-f]*)…")
"""A digest that a page shows the beginning of."""

Object = dict[str, Any]


def yaml_blocks(page: Path) -> list[str]:
    """Return the YAML of a page, with digests that are cut short filled up."""
    found = re.findall(r"^ *```ya?ml\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [CUT.sub(lambda match: match[1] + match[2].ljust(64, "0"), each) for each in found]


def objects() -> Iterator[tuple[str, Object]]:
    for page in PAGES:
        for number, block in enumerate(yaml_blocks(page), start=1):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and {"apiVersion", "kind"} <= document.keys():
                    yield f"{page.relative_to(ROOT)}-{number}-{document['kind']}", document


OBJECTS = dict(objects())
OURS_AND_CORE = {name: each for name, each in OBJECTS.items() if not each["apiVersion"].startswith(FOREIGN)}


def test_there_are_objects_of_both_kinds_to_check() -> None:
    assert {each["kind"] for each in OURS_AND_CORE.values()} >= {"LoRAJob", "LoRAAdapter"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_yaml_parses(page: Path) -> None:
    for block in yaml_blocks(page):
        assert [each for each in yaml.safe_load_all(block) if each is not None]


@pytest.mark.parametrize("name", OURS_AND_CORE)
def test_the_api_server_takes_every_object_without_a_warning(cluster: Objects, name: str) -> None:
    document = dict(OURS_AND_CORE[name])
    document["metadata"] = {key: each for key, each in document["metadata"].items() if key != "namespace"}
    arguments = ("apply", "-n", cluster.namespace, "--dry-run=server", "-f", "-")
    done = cluster.server.run_kubectl(*arguments, stdin=yaml.safe_dump(document))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "created (server dry run)" in done.stdout


@pytest.mark.parametrize("name", [each for each in OBJECTS if each not in OURS_AND_CORE])
def test_an_object_of_a_foreign_kind_has_what_every_object_has(name: str) -> None:
    document = OBJECTS[name]
    assert re.fullmatch(r"[a-z0-9.-]+/v\d\w*", document["apiVersion"])
    assert document["metadata"]["name"]
    assert "spec" in document or "data" in document


def spec_for(wanted: DataFormat) -> LoRAJobSpec:
    """Return a job of the first task and objective that learn from a format."""
    specs = (
        LoRAJobSpec.model_validate(SMALLEST | {"task": task, "objective": objective})
        for task in Task
        for objective in Objective
        if objective is Objective.SFT or task is Task.CAUSAL_LM
    )
    return next(each for each in specs if wanted in rules_of(each).formats)


def read(record: Record, spec: LoRAJobSpec) -> tuple[DataFormat, Row]:
    found = detect_format(record, spec)
    return found, reader_of(found, source_target=spec.task is Task.SEQ2SEQ_LM)(record)


SECTIONS = re.findall(r"^### (\w+)\n(.*?)(?=^##)", DATA_PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_every_format_has_a_section() -> None:
    assert [name for name, _ in SECTIONS] == [each.value for each in DataFormat if each is not DataFormat.AUTO]


@pytest.mark.parametrize(("name", "section"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_the_row_of_a_format_is_found_to_be_of_it_and_is_read(name: str, section: str) -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    wanted = DataFormat(name)
    for line in block.splitlines():
        found, _ = read(json.loads(line), spec_for(wanted))
        assert found is wanted


@pytest.mark.parametrize(("name", "section"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_the_tasks_of_a_format_are_those_that_learn_from_it(name: str, section: str) -> None:
    said = {each.value for each in Task if f"`{each.value}`" in section}
    fitting = {task.value for task in Task for objective in Objective if _learns(task, objective, DataFormat(name))}
    assert said == fitting


def _learns(task: Task, objective: Objective, wanted: DataFormat) -> bool:
    if objective is Objective.DPO and task is not Task.CAUSAL_LM:
        return False
    return wanted in rules_of(LoRAJobSpec.model_validate(SMALLEST | {"task": task, "objective": objective})).formats


def refusal(record: Record | RowError, spec: LoRAJobSpec) -> str:
    """Return what is said of a record; empty if it is a good row."""
    if isinstance(record, RowError):
        return str(record)
    try:
        read(ColumnNames({}, "spec.dataset.train").rename(record), spec)
    except RowError as error:
        return str(error)
    return ""


ERRORS = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+?) \|$", DATA_PAGE.read_text(), flags=re.MULTILINE)


def test_there_are_errors_to_check() -> None:
    assert len(ERRORS) > 8


@pytest.mark.parametrize(("task", "row", "said"), ERRORS, ids=[row[:30] for _, row, _ in ERRORS])
def test_the_error_of_a_row_is_the_one_of_the_page(task: str, row: str, said: str, tmp_path: Path) -> None:
    spec = LoRAJobSpec.model_validate(SMALLEST | {"task": task})
    file = tmp_path / "rows.jsonl"
    file.write_text(row + "\n")
    ((_, record),) = read_records(file.name, file)
    assert refusal(record, spec) == said
