"""Formats: found by the columns, refused where the task cannot learn them, and columns under other names."""

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat
from lora_trainer.data.formats import ColumnNames, check_format, detect_format, telling_columns
from lora_trainer.data.rows import RowError
from lora_trainer.errors import TrainerError
from support.specs import SMALLEST


def spec(task="CausalLM", objective="SFT"):
    return LoRAJobSpec.model_validate(SMALLEST | {"task": task, "objective": objective})


def columns(*names):
    return dict.fromkeys(names, "x")


FOUND = [
    ("CausalLM", "SFT", ("messages", "prompt", "id"), "Messages"),
    ("CausalLM", "SFT", ("conversations",), "Messages"),
    ("CausalLM", "SFT", ("prompt", "completion", "text"), "PromptCompletion"),
    ("CausalLM", "SFT", ("instruction", "input", "output"), "Instruction"),
    ("CausalLM", "SFT", ("instruction", "response"), "Instruction"),
    ("CausalLM", "SFT", ("text", "url"), "Text"),
    ("CausalLM", "SFT", ("messages", "chosen", "rejected"), "Messages"),
    ("CausalLM", "DPO", ("messages", "chosen", "rejected"), "Preference"),
    ("Seq2SeqLM", "SFT", ("source", "target"), "SourceTarget"),
    ("Seq2SeqLM", "SFT", ("prompt", "completion"), "PromptCompletion"),
    ("SequenceClassification", "SFT", ("sentence", "label"), "Classification"),
    ("TokenClassification", "SFT", ("tokens", "ner_tags"), "Tagging"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "objective", "names", "expected"), FOUND)
def test_the_columns_speak_for_a_format_that_the_task_learns(task, objective, names, expected):
    found = detect_format(columns(*names), spec(task, objective))
    assert found == DataFormat(expected)
    assert set(telling_columns(columns(*names), found).split(", ")) <= set(names)


REFUSED = [
    (
        "CausalLM",
        "SFT",
        ("chosen", "rejected"),
        "are Preference rows, which task CausalLM with objective SFT cannot",
        "set spec.objective: DPO,",
    ),
    ("CausalLM", "DPO", ("messages",), "are Messages rows", "set spec.objective: SFT,"),
    ("CausalLM", "SFT", ("tokens", "tags"), "are Tagging rows", "set spec.task: TokenClassification,"),
    (
        "CausalLM",
        "DPO",
        ("source", "target"),
        "are SourceTarget rows",
        "set spec.task: Seq2SeqLM and spec.objective: SFT,",
    ),
    (
        "SequenceClassification",
        "SFT",
        ("messages",),
        "are Messages rows",
        "set spec.task: CausalLM, or use rows with text and label",
    ),
    (
        "CausalLM",
        "SFT",
        ("question", "answer"),
        "the columns answer, question match no format",
        "write messages; or prompt and completion",
    ),
]


@pytest.mark.parametrize(("task", "objective", "names", "fault", "fix"), REFUSED)
def test_rows_that_the_task_cannot_learn_are_refused_with_the_fix(task, objective, names, fault, fix):
    with pytest.raises(RowError) as caught:
        detect_format(columns(*names), spec(task, objective))
    assert fault in str(caught.value)
    assert fix in str(caught.value)


def test_a_format_that_is_asked_for_must_fit_the_task():
    check_format(spec(), DataFormat.TEXT, "spec.dataset.train")
    with pytest.raises(TrainerError, match=r"spec\.dataset\.train\.format: Preference rows") as caught:
        check_format(spec(), DataFormat.PREFERENCE, "spec.dataset.train")
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST
    assert "set spec.objective: DPO" in caught.value.hint


def test_a_mapped_column_is_read_under_its_usual_name():
    names = ColumnNames({"prompt": "question", "completion": "answer"}, "spec.dataset.train")
    record = {"question": "a", "answer": "b", "prompt": "not this", "note": None}
    assert names.rename(record) == {"prompt": "a", "completion": "b"}
    assert names.fault is None


def test_a_mapped_column_that_no_row_has_is_an_error_with_the_columns_there_are():
    names = ColumnNames({"prompt": "question"}, "spec.dataset.mixture[0]")
    names.rename({"query": 1, "answer": 2})
    assert names.fault.exit_code == ExitCode.INVALID_REQUEST
    assert names.fault.message == (
        "spec.dataset.mixture[0].columns: no row has the column question, which prompt is mapped to"
    )
    assert names.fault.hint == "map it to one of answer, query"


def test_a_mapped_column_may_be_missing_in_some_rows():
    names = ColumnNames({"input": "context"}, "spec.dataset.train")
    names.rename({"instruction": "a"})
    names.rename({"instruction": "a", "context": "b"})
    assert names.fault is None


def test_only_usual_names_can_be_mapped():
    with pytest.raises(TrainerError, match=r"spec\.dataset\.train\.columns: question is no column of any format"):
        ColumnNames({"question": "prompt"}, "spec.dataset.train")


CELLS = [
    ("messages", '[{"role": "user", "content": "a"}]', [{"role": "user", "content": "a"}]),
    ("tokens", ' ["a", "b"]', ["a", "b"]),
    ("prompt", '[{"role": "user", "content": "a"}]', [{"role": "user", "content": "a"}]),
    ("completion", '[{"name": "an answer that is JSON"}]', '[{"name": "an answer that is JSON"}]'),
    ("completion", '{"a": 1}', '{"a": 1}'),
    ("completion", "[citation needed]", "[citation needed]"),
    ("text", '["a"]', '["a"]'),
]


@pytest.mark.parametrize(("name", "cell", "value"), CELLS)
def test_a_cell_of_a_table_is_parsed_where_a_list_is_meant(name, cell, value):
    assert ColumnNames({}, "spec.dataset.train").rename({name: cell}, cells=True) == {name: value}
