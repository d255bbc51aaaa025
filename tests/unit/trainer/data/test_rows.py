"""Rows: what is read, and what each complaint says. No complaint may quote the content."""

import json

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.sources import DataFormat
from lora_trainer.data.rows import read_rows
from lora_trainer.errors import TrainerError

URI = "s3://data/train.jsonl"
SECRET = "zebra-stripes"
GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": SECRET}]}


def lines(*rows):
    return [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]


def refused(*rows, wanted=DataFormat.AUTO):
    with pytest.raises(TrainerError) as caught:
        read_rows(URI, lines(*rows), wanted)
    assert caught.value.exit_code == ExitCode.BAD_DATA
    assert SECRET not in str(caught.value)
    return caught.value.message


def chat(*messages):
    return {"messages": list(messages)}


USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": SECRET}

BAD_ROWS = {
    "no content": (chat({"role": "user"}, ANSWER), "messages[0].content is missing; write a string"),
    "null content": (chat(USER, {"role": "assistant", "content": None}), "messages[1].content is missing"),
    "a number": (chat(USER, {"role": "assistant", "content": 3}), "messages[1].content is a number; write a string"),
    "parts": (chat(USER, {"role": "assistant", "content": [{}]}), "messages[1].content is a list; write a string"),
    "blank answer": (chat(USER, {"role": "assistant", "content": " "}), "messages[1].content is empty"),
    "no role": (chat({"content": SECRET}), "messages[0].role is missing; write one of system, developer, user"),
    "bad role": (chat({"role": SECRET, "content": ""}), "messages[0].role is not a known role"),
    "no answer": (chat(USER), "messages has no assistant message"),
    "nothing to learn": (chat(USER, ANSWER | {"train": False}), "every assistant message has train: false"),
    "train is a word": (chat(USER, ANSWER | {"train": "no"}), "messages[1].train is a string; write true or false"),
    "weight": (chat(USER, ANSWER | {"weight": 0.5}), "messages[1].weight is neither 0 nor 1"),
    "a message is a string": (chat(SECRET), "messages[0] is a string; write an object with role and content"),
    "empty list": ({"messages": []}, "messages is an empty list; write a list of messages"),
    "no list": ({"messages": SECRET}, "messages is a string; write a list of messages"),
    "tools": (GOOD | {"tools": SECRET}, "tools is a string; write a list of tool descriptions"),
    "half a character": (chat(USER, {"role": "assistant", "content": "\ud800"}), "half of a surrogate pair"),
    "not an object": ([SECRET], "is a list; write a JSON object"),
    "not JSON": (f'{{"messages": {SECRET}'.encode(), "not JSON: Expecting value at column 14"),
    "not UTF-8": (b'{"messages": "\xff"}', "byte 14 is not UTF-8; save the file as UTF-8"),
    "sharegpt": ({"conversations": []}, "rename conversations to messages, from to role and value to content"),
    "other fields": ({"question": SECRET, "answer": 1}, "the fields answer, question match no format"),
    "mixed prompt": ({"prompt": "a", "completion": [ANSWER]}, "one of prompt and completion is a list"),
    "no completion": ({"prompt": "a", "completion": ""}, "completion is an empty string"),
}


@pytest.mark.parametrize("case", [name for name in BAD_ROWS if name != "no completion"], ids=str)
def test_a_bad_row_is_named_with_field_fault_and_fix(case):
    row, words = BAD_ROWS[case]
    message = refused(row)
    assert message.startswith(f"{URI} row 1: ")
    assert words in message


def test_an_empty_completion_is_refused():
    assert "row 1: completion is empty; write the text to learn" in refused({"prompt": "a", "completion": ""})


def test_row_numbers_are_line_numbers_and_empty_lines_count():
    assert f"{URI} row 4: not JSON" in refused(GOOD, b"", b"   \n", b"{", GOOD)


def test_the_first_bad_rows_are_named_and_all_up_to_ten_are_counted():
    message = refused(GOOD, *[b"{"] * 5)
    assert message.count("row ") == 3
    assert message.endswith("(5 bad rows)")
    assert refused(*[b"["] * 400).endswith("(10 or more bad rows)")


def test_a_file_without_rows_is_refused():
    assert "the file has no rows" in refused(b"\n")


def test_the_format_is_detected_by_the_fields_of_the_first_row():
    rows = read_rows(URI, lines(GOOD), DataFormat.AUTO)
    assert (rows.format, rows.detected) == (DataFormat.MESSAGES, "row 1 has the fields messages")
    rows = read_rows(URI, lines({"completion": "b", "prompt": "a", "id": 1}), DataFormat.AUTO)
    assert (rows.format, rows.detected) == (
        DataFormat.PROMPT_COMPLETION,
        "row 1 has the fields completion, id, prompt",
    )


def test_all_rows_have_the_format_of_the_first():
    assert "row 2: messages is missing" in refused(GOOD, {"prompt": "a", "completion": "b"})


def test_a_byte_order_mark_is_no_content():
    assert len(read_rows(URI, [b"\xef\xbb\xbf" + lines(GOOD)[0]], DataFormat.AUTO).rows) == 1


def test_trained_messages_are_the_assistants_without_train_false():
    row = chat(USER, ANSWER, USER, ANSWER | {"train": False}, USER, ANSWER | {"weight": 0}, USER, ANSWER)
    assert read_rows(URI, lines(row), DataFormat.AUTO).rows[0].trained == [1, 7]


def test_a_tool_call_needs_no_content():
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    assert read_rows(URI, lines(chat(USER, call)), DataFormat.AUTO).rows[0].trained == [1]


def test_prompt_and_completion_may_be_messages():
    row = read_rows(URI, lines({"prompt": [USER, ANSWER, USER], "completion": [ANSWER]}), DataFormat.AUTO).rows[0]
    assert row.trained == [3]


def test_rows_that_teach_the_same_have_the_same_digest():
    digests = read_rows(
        URI, lines(GOOD | {"id": 1}, GOOD | {"id": 2}, chat(USER, ANSWER, USER, ANSWER)), DataFormat.AUTO
    )
    assert digests.digests[0] == digests.digests[1] != digests.digests[2]
