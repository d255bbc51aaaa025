"""docs/conditions.md says what the code can write: every condition, status and reason of it, and no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_api.reasons import ConditionType, Reason

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "conditions.md"
DOMAIN = ROOT / "operator" / "lora_operator" / "domain"
SETTERS = {"_preflight": ConditionType.PREFLIGHT_PASSED, "_not_running": ConditionType.RUNNING}
"""Functions that set one condition; the status of the second is False."""
OPEN = None
"""In place of a reason: the code takes it from a failure, a stall or an agent."""

Said = tuple[ConditionType, str, Reason | None]


def documented() -> dict[tuple[ConditionType, str], tuple[set[Reason], bool]]:
    """Return the reasons of each condition and status, and whether the page says that there are others, in words."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|", PAGE.read_text(), flags=re.MULTILINE)
    assert len(rows) == len({row[:2] for row in rows}), "one row for each condition and status"
    return {
        (ConditionType(kind), status): (
            {Reason(each) for each in re.findall(r"`(\w+)`", cell)},
            "reason" in cell or "why" in cell,
        )
        for kind, status, cell in rows
    }


def written() -> set[Said]:
    """Return what the domain's code can write."""
    found: set[Said] = set()
    for path in DOMAIN.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                found |= set(_verdicts(function) if path.name == "adapter_status.py" else _set_by(function))
    return found


def _set_by(function: ast.FunctionDef) -> Iterator[Said]:
    """Yield the conditions of a LoRAJob that a function sets."""
    if function.name in SETTERS:
        return  # what it is given stands where it is called
    assigned = [ast.unparse(each.value) for each in ast.walk(function) if isinstance(each, ast.Assign)]
    local = re.findall(r"ConditionType\.(\w+)", " ".join(assigned))  # a function that sets `kind` sets one
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        if name == "condition":
            kind, status, reason = call.args[:3]
            said = ast.unparse(kind).removeprefix("ConditionType.")
            yield from _each(ConditionType[local[0] if said == "kind" else said], status, reason)
        elif name == "_preflight":
            yield from _each(SETTERS[name], call.args[1], call.args[2])
        elif name == "_not_running":
            yield from _each(SETTERS[name], ast.Constant("False"), call.args[1])


def _verdicts(function: ast.FunctionDef) -> Iterator[Said]:
    """Yield the conditions of a LoRAAdapter that a function decides, which bears the name of its condition."""
    name = "_degraded" if function.name == "_pod_troubles" else function.name
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Verdict":
            yield from _each(ConditionType[name.removeprefix("_").upper()], call.args[0], call.args[1])


def _each(kind: ConditionType, status: ast.expr, reason: ast.expr) -> Iterator[Said]:
    assert isinstance(status, ast.Constant), "a status is written out where it is set"
    for said in (reason.body, reason.orelse) if isinstance(reason, ast.IfExp) else (reason,):
        text = ast.unparse(said)
        yield kind, str(status.value), Reason[text.removeprefix("Reason.")] if text.startswith("Reason.") else OPEN


WRITTEN = written()


def test_every_condition_has_its_rows() -> None:
    assert {kind for kind, _ in documented()} == set(ConditionType) == {kind for kind, _, _ in WRITTEN}


@pytest.mark.parametrize("kind", ConditionType, ids=str)
def test_the_page_has_what_the_code_writes(kind: ConditionType) -> None:
    page = {key: each for key, each in documented().items() if key[0] is kind}
    assert set(page) == {(kind, status) for each, status, _ in WRITTEN if each is kind}
    for (_, status), (reasons, others) in page.items():
        code = {reason for each, said, reason in WRITTEN if (each, said) == (kind, status)}
        assert others == (OPEN in code) or kind is ConditionType.ADMITTED, "the page says when there are other reasons"
        assert code - {OPEN} <= reasons
        assert reasons - code <= (QUEUE_REASONS if kind is ConditionType.ADMITTED else set())


QUEUE_REASONS = {Reason.QUEUED, Reason.EVICTED, Reason.PREEMPTED}
"""What `queueing._why` returns."""
