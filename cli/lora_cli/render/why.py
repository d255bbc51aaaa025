"""An explanation as text: what it was read from, and at the end one sentence and a hint."""

from lora_api.conditions import Condition
from lora_cli.explain.job import conditions_in_order
from lora_cli.explain.snapshot import Explanation

_MESSAGE_LIMIT = 160


def why_lines(explanation: Explanation) -> list[str]:
    """Return the lines."""
    lines = [explanation.name]
    for title, part in (
        ("conditions", [_condition(each) for each in conditions_in_order(explanation.conditions)]),
        ("jobs and pods", list(explanation.works)),
        ("events", list(explanation.events)),
        ("last log lines", list(explanation.log)),
        ("not known", list(explanation.unread)),
    ):
        if part:
            lines += [f"  {title}:", *(f"    {_cut(each)}" for each in part)]
    verdict = explanation.verdict
    lines += ["", f"{verdict.sentence.rstrip('.')} ({verdict.reason})."]
    return lines + ([f"What to do: {verdict.hint}."] if verdict.hint else [])


def _condition(condition: Condition) -> str:
    return f"{condition.type}={condition.status} {condition.reason}" + (
        f": {condition.message}" if condition.message else ""
    )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"
