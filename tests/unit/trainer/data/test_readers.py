"""Rows: what is read of each format, and what each complaint says. No complaint may quote the content."""

import pytest

from lora_api.sources import DataFormat
from lora_trainer.data.readers import reader_of
from lora_trainer.data.rows import (
    ChatRow,
    ClassRow,
    InstructionRow,
    PairRow,
    RowError,
    SourceRow,
    TagRow,
    TextRow,
    digest_of_row,
)

SECRET = "zebra-stripes"
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": SECRET}
OTHER = {"role": "assistant", "content": "Other"}


def read(wanted, record, *, source_target=False):
    return reader_of(DataFormat(wanted), source_target=source_target)(record)


def chat(*messages):
    return {"messages": list(messages)}


def turns(*pairs):
    return {"conversations": [{"from": who, "value": value} for who, value in pairs]}


BAD_ROWS = [
    ("Messages", chat({"role": "user"}, ANSWER), "messages[0].content is missing; write a string"),
    ("Messages", chat(USER, {"role": "assistant", "content": None}), "messages[1].content is missing"),
    ("Messages", chat(USER, {"role": "assistant", "content": 3}), "messages[1].content is a number; write a string"),
    ("Messages", chat(USER, {"role": "assistant", "content": [{}]}), "messages[1].content is a list; write a string"),
    ("Messages", chat(USER, {"role": "assistant", "content": " "}), "messages[1].content is empty"),
    ("Messages", chat({"content": SECRET}), "messages[0].role is missing; write one of system, developer, user"),
    ("Messages", chat({"role": SECRET, "content": ""}), "messages[0].role is not a known role"),
    ("Messages", chat(USER), "messages has no assistant message"),
    ("Messages", chat(USER, ANSWER | {"train": False}), "every assistant message has train: false"),
    ("Messages", chat(USER, ANSWER | {"train": "no"}), "messages[1].train is a string; write true or false"),
    ("Messages", chat(USER, ANSWER | {"weight": 0.5}), "messages[1].weight is neither 0 nor 1"),
    ("Messages", chat(SECRET), "messages[0] is a string; write an object with role and content"),
    ("Messages", {"messages": []}, "messages is an empty list; write a list of messages"),
    ("Messages", {"messages": SECRET}, "messages is a string; write a list of messages"),
    ("Messages", {}, "messages is missing; write a list of messages"),
    ("Messages", chat(USER, ANSWER) | {"tools": SECRET}, "tools is a string; write a list of tool descriptions"),
    ("Messages", chat(USER, {"role": "assistant", "content": "\ud800"}), "half of a surrogate pair"),
    ("Messages", turns((SECRET, "Hi")), "conversations[0].from is not a known role; write one of system, human"),
    ("Messages", turns(("human", 3)), "conversations[0].content is a number"),
    ("Messages", {"conversations": SECRET}, "conversations is a string; write a list of objects with from and value"),
    ("PromptCompletion", {"prompt": "a", "completion": [ANSWER]}, "one of prompt and completion is a list"),
    ("PromptCompletion", {"prompt": "a", "completion": ""}, "completion is empty; write the text to learn"),
    ("PromptCompletion", {"prompt": [USER], "completion": [USER]}, "completion has no assistant message"),
    ("Instruction", {"instruction": SECRET}, "output is missing; write a string"),
    ("Instruction", {"instruction": SECRET, "response": ""}, "response is empty"),
    ("Instruction", {"instruction": SECRET, "input": 3, "output": "a"}, "input is a number; write a string"),
    ("Text", {"text": "  "}, "text is empty"),
    ("Preference", {"prompt": "a", "chosen": SECRET}, "rejected is missing; write a string"),
    ("Preference", {"chosen": "abc", "rejected": "xyz"}, "do not begin with the same prompt; add a column prompt"),
    ("Preference", {"chosen": [ANSWER], "rejected": [OTHER]}, "do not begin with the same messages"),
    ("Preference", {"chosen": [USER, ANSWER], "rejected": SECRET}, "some of prompt, chosen and rejected are lists"),
    ("Classification", {"text": "a"}, "label is null; write the class as a string or a whole number"),
    ("Classification", {"text": "a", "label": 0.5}, "label is a number; write the class as a string or a whole number"),
    ("Classification", {"label": 1}, "text is missing"),
    ("Tagging", {"tokens": ["a", "b"], "tags": ["O"]}, "tokens has 2 entries and tags 1; write one tag for each token"),
    ("Tagging", {"tokens": SECRET, "tags": ["O"]}, "tokens is a string; write a list"),
    ("Tagging", {"tokens": ["a"], "ner_tags": [None]}, "ner_tags[0] is null; write the class"),
    ("SourceTarget", {"source": "", "target": "a"}, "source is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "record", "words"), BAD_ROWS, ids=lambda value: str(value)[:40])
def test_a_bad_row_is_told_with_field_fault_and_fix(wanted, record, words):
    with pytest.raises(RowError) as caught:
        read(wanted, record, source_target=wanted == "SourceTarget")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


GOOD_ROWS = [
    ("Messages", chat(USER, ANSWER), ChatRow([USER, ANSWER], [1])),
    ("Messages", turns(("human", "Hi"), ("gpt", SECRET)), ChatRow([USER, ANSWER], [1])),
    ("Messages", {"conversations": [USER, ANSWER]}, ChatRow([USER, ANSWER], [1])),
    ("Messages", chat(USER | {"name": None}, ANSWER | {"train": None, "id": 7}), ChatRow([USER, ANSWER], [1])),
    ("PromptCompletion", {"prompt": "a", "completion": "b"}, TextRow("a", "b")),
    (
        "PromptCompletion",
        {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]},
        ChatRow([USER, ANSWER, USER, ANSWER], [3]),
    ),
    ("Instruction", {"instruction": "Add", "input": "1, 2", "output": "3"}, InstructionRow("", "Add\n\n1, 2", "3")),
    ("Instruction", {"system": "Be", "instruction": "Add", "response": "3"}, InstructionRow("Be", "Add", "3")),
    ("Text", {"text": "once"}, TextRow("", "once")),
    ("Preference", {"prompt": "a ", "chosen": "b", "rejected": "c"}, PairRow(TextRow("a ", "b"), TextRow("a ", "c"))),
    (
        "Preference",
        {"chosen": "Q: one or two? A: The one", "rejected": "Q: one or two? A: The two"},
        PairRow(TextRow("Q: one or two? A: The", " one"), TextRow("Q: one or two? A: The", " two")),
    ),
    (
        "Preference",
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
        PairRow(ChatRow([USER, ANSWER], [1]), ChatRow([USER, OTHER], [1])),
    ),
    (
        "Preference",
        {"prompt": "Hi", "chosen": [ANSWER], "rejected": [OTHER]},
        PairRow(ChatRow([USER, ANSWER], [1]), ChatRow([USER, OTHER], [1])),
    ),
    (
        "Preference",  # as many sets have it: the prompt as text, and both conversations whole
        {"prompt": "Hi", "chosen": [USER, ANSWER, USER, ANSWER], "rejected": [USER, ANSWER, USER, OTHER]},
        PairRow(ChatRow([USER, ANSWER, USER, ANSWER], [3]), ChatRow([USER, ANSWER, USER, OTHER], [3])),
    ),
    (
        "Preference",
        {"prompt": [USER], "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        PairRow(ChatRow([USER, ANSWER], [1]), ChatRow([USER, OTHER], [1])),
    ),
    ("Classification", {"sentence": "a", "label": True}, ClassRow("a", None, "true")),
    ("Classification", {"text": "a", "text_pair": "b", "label": 3}, ClassRow("a", "b", "3")),
    ("Tagging", {"tokens": ["Ada", ""], "ner_tags": [1, 0]}, TagRow(["Ada", ""], ["1", "0"])),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "record", "row"), GOOD_ROWS, ids=lambda value: str(value)[:40])
def test_a_row_is_read(wanted, record, row):
    assert read(wanted, record) == row


@pytest.mark.parametrize(
    ("wanted", "record"),
    [
        ("SourceTarget", {"source": "a", "target": "b"}),
        ("PromptCompletion", {"prompt": "a", "completion": "b"}),
        ("Instruction", {"instruction": "a", "output": "b"}),
    ],
)
def test_a_task_that_turns_texts_into_others_reads_a_source_and_a_target(wanted, record):
    assert read(wanted, record, source_target=True) == SourceRow("a", "b")


def test_trained_messages_are_the_assistants_without_train_false():
    row = chat(USER, ANSWER, USER, ANSWER | {"train": False}, USER, ANSWER | {"weight": 0}, USER, ANSWER)
    assert read("Messages", row).trained == [1, 7]


def test_a_tool_call_needs_no_content_and_its_arguments_become_an_object():
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}
    row = read("Messages", chat(USER, call))
    assert row.trained == [1]
    assert row.messages[1]["tool_calls"] == [{"function": {"name": "f", "arguments": {"a": 1}}}]


def test_rows_that_teach_the_same_have_the_same_digest():
    rows = [read("Messages", chat(USER, ANSWER) | {"id": number}) for number in (1, 2)]
    longer = read("Messages", chat(USER, ANSWER, USER, ANSWER))
    assert digest_of_row(rows[0]) == digest_of_row(rows[1]) != digest_of_row(longer)
    assert digest_of_row(TextRow("a", "b")) != digest_of_row(SourceRow("a", "b"))
