"""Reasons and exit codes: every one has its line in the documentation, and every code its reason."""

import re
from pathlib import Path

from lora_api.exit_codes import DISRUPTIONS, PERMANENT, ExitCode
from lora_api.reasons import REASON_OF_EXIT_CODE, Reason

DOCS = Path(__file__).resolve().parents[3] / "docs"


def first_column(page: str) -> set[str]:
    """Return what stands in backticks at the start of the table rows of a page."""
    return set(re.findall(r"^\| `([^`]+)`", (DOCS / page).read_text(), flags=re.MULTILINE))


def test_every_reason_is_documented_and_no_other() -> None:
    assert first_column("reasons.md") == {reason.value for reason in Reason}


def test_every_exit_code_is_documented_and_no_other() -> None:
    assert first_column("exit-codes.md") == {str(code.value) for code in ExitCode}


def test_every_failing_code_has_a_reason() -> None:
    assert set(REASON_OF_EXIT_CODE) == set(ExitCode) - {ExitCode.DONE}


def test_no_code_is_permanent_and_a_disruption() -> None:
    assert not PERMANENT & DISRUPTIONS
