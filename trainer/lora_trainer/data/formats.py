"""Which format rows have: asked for or found by their columns, and refused where the task cannot learn it.

Also the names of columns: a user may map the usual ones to those in the data. Pure.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat
from lora_api.training import Objective, Task
from lora_trainer.data.rows import Record, RowError, names_of
from lora_trainer.errors import TrainerError, invalid_request
from lora_trainer.tasks import rules_of

_SIGNATURES: dict[DataFormat, tuple[tuple[str, ...], ...]] = {
    DataFormat.MESSAGES: (("messages", "conversations"),),
    DataFormat.PREFERENCE: (("chosen",), ("rejected",)),
    DataFormat.PROMPT_COMPLETION: (("prompt",), ("completion",)),
    DataFormat.INSTRUCTION: (("instruction",), ("output", "response")),
    DataFormat.SOURCE_TARGET: (("source",), ("target",)),
    DataFormat.TAGGING: (("tokens",), ("tags", "ner_tags")),
    DataFormat.CLASSIFICATION: (("text", "sentence"), ("label",)),
    DataFormat.TEXT: (("text",),),
}
"""Columns that speak for a format: one of each group. Looked at in this order, the most telling ones first."""

_OPTIONAL = ("tools", "input", "system", "text_pair")
USUAL_NAMES = frozenset(_OPTIONAL) | {
    name for groups in _SIGNATURES.values() for alternatives in groups for name in alternatives
}
_LISTS = frozenset({"messages", "conversations", "tools", "tokens", "tags", "ner_tags"})
_MAYBE_MESSAGES = frozenset({"prompt", "completion", "chosen", "rejected"})

_TASK_OF: dict[DataFormat, tuple[Task, Objective]] = {
    DataFormat.PREFERENCE: (Task.CAUSAL_LM, Objective.DPO),
    DataFormat.SOURCE_TARGET: (Task.SEQ2SEQ_LM, Objective.SFT),
    DataFormat.CLASSIFICATION: (Task.SEQUENCE_CLASSIFICATION, Objective.SFT),
    DataFormat.TAGGING: (Task.TOKEN_CLASSIFICATION, Objective.SFT),
}


def check_format(spec: LoRAJobSpec, wanted: DataFormat, field: str) -> None:
    """Refuse a format that the task cannot learn (64)."""
    if wanted is not DataFormat.AUTO and wanted not in rules_of(spec).formats:
        raise invalid_request(f"{field}.format: {_refusal(spec, wanted)}", _remedy(spec, wanted))


def detect_format(record: Record, spec: LoRAJobSpec) -> DataFormat:
    """Return the format, among those that the task learns, that the columns of a row speak for; `RowError` if none."""
    formats = rules_of(spec).formats
    found = next((each for each in _SIGNATURES if each in formats and _speaks_for(record, each)), None)
    if found is not None:
        return found
    other = next((each for each in _SIGNATURES if _speaks_for(record, each)), None)
    if other is not None:
        raise RowError(f"the columns {names_of(record)} are {_refusal(spec, other)}; {_remedy(spec, other)}")
    raise RowError(
        f"the columns {names_of(record)} match no format; write {_wanted_columns(formats)}, "
        "or map the names in columns, such as prompt: question"
    )


def telling_columns(record: Record, found: DataFormat) -> str:
    """Return the columns that speak for a format."""
    return ", ".join(name for group in _SIGNATURES[found] for name in group if name in record)


class ColumnNames:
    """The mapping from usual names of columns to those in the data."""

    def __init__(self, columns: Mapping[str, str], field: str) -> None:
        """Raises 64 for a name that means nothing here."""
        unknown = sorted(set(columns) - USUAL_NAMES)
        if unknown:
            raise invalid_request(
                f"{field}.columns: {unknown[0]} is no column of any format",
                f"map one of {', '.join(sorted(USUAL_NAMES))} to the name in your data",
            )
        self._columns, self._field = dict(columns), field
        self._unseen = set(columns.values())
        self._existing: set[str] = set()

    def rename(self, record: Record, *, cells: bool = False) -> Record:
        """Return the row under the usual names, without empty columns; `cells` are texts that may hold JSON."""
        if self._unseen:
            self._unseen -= record.keys()
            self._existing |= record.keys()
        values = {name: value for name, value in record.items() if value is not None}
        moved = {usual: values.pop(name) for usual, name in self._columns.items() if name in values}
        renamed = values | moved
        return {name: _decoded(name, value) for name, value in renamed.items()} if cells else renamed

    @property
    def fault(self) -> TrainerError | None:
        """The error of a mapped name that no row had, once all are read."""
        if not self._unseen:
            return None
        name = min(self._unseen)
        usual = next(usual for usual, mapped in self._columns.items() if mapped == name)
        return invalid_request(
            f"{self._field}.columns: no row has the column {name}, which {usual} is mapped to",
            f"map it to one of {names_of(dict.fromkeys(self._existing))}",
        )


def _speaks_for(record: Record, wanted: DataFormat) -> bool:
    return all(any(name in record for name in alternatives) for alternatives in _SIGNATURES[wanted])


def _refusal(spec: LoRAJobSpec, found: DataFormat) -> str:
    return f"{found.value} rows, which task {spec.task.value} with objective {spec.objective.value} cannot learn"


def _remedy(spec: LoRAJobSpec, found: DataFormat) -> str:
    task, objective = _TASK_OF.get(found, (Task.CAUSAL_LM, Objective.SFT))
    changes = [f"spec.task: {task.value}"] if task is not spec.task else []
    changes += [f"spec.objective: {objective.value}"] if objective is not spec.objective else []
    return f"set {' and '.join(changes)}, or use rows with {_wanted_columns(rules_of(spec).formats)}"


def _wanted_columns(formats: Sequence[DataFormat]) -> str:
    return "; or ".join(" and ".join(group[0] for group in _SIGNATURES[each]) for each in formats)


def _decoded(name: str, value: Any) -> Any:
    """Return a cell of a text table, parsed where a list is meant."""
    if name not in _LISTS | _MAYBE_MESSAGES or not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    # An answer may be a text that is JSON; only a list of objects is a conversation.
    is_meant = name in _LISTS or all(isinstance(each, dict) and "role" in each for each in parsed)
    return parsed if is_meant and parsed else value
