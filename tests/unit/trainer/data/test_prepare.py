"""Lengths: the default, the cut, and that every cut row is counted."""

from array import array

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.sources import DataFormat
from lora_trainer.data.chat import ChatTokenizer
from lora_trainer.data.prepare import Example, default_max_length, fit_to_length, tokenize_rows
from lora_trainer.data.rows import ChatRow, RowSet
from lora_trainer.errors import TrainerError
from unit.trainer import tiny_tokenizer as tiny


def example(prompt, answer):
    return Example(array("i", range(prompt + answer)), array("b", [0] * prompt + [1] * answer))


@pytest.mark.parametrize(
    ("lengths", "limit", "expected"),
    [
        ([10], 8192, 128),
        ([128], 8192, 128),
        ([129], 8192, 256),
        ([100] * 99 + [9000], 8192, 128),  # one outlier in a hundred is cut
        ([100] * 98 + [9000] * 2, 8192, 4096),
        ([9000] * 10, 2048, 2048),
    ],
)
def test_the_default_length_is_the_99th_percentile_rounded_up(lengths, limit, expected):
    assert default_max_length(lengths, limit) == expected


def test_what_is_cut_and_what_is_dropped_is_counted():
    fitted = fit_to_length([example(4, 4), example(4, 40), example(40, 4)], 16)
    assert [len(each) for each in fitted.examples] == [8, 16]
    assert (fitted.truncated, fitted.dropped) == (2, 1)
    assert (fitted.tokens, fitted.learned_tokens) == (24, 16)


def test_conversations_need_a_chat_template():
    rows = RowSet("s3://d/t.jsonl", DataFormat.MESSAGES, [ChatRow(1, [{"role": "assistant", "content": "a"}], [0])])
    with pytest.raises(TrainerError, match="no chat template") as caught:
        tokenize_rows(ChatTokenizer(tiny.tiny_tokenizer(None, [], "<eos>")), rows)
    assert caught.value.exit_code == ExitCode.BAD_DATA


def test_rows_that_a_template_refuses_are_named():
    rows = RowSet("s3://d/t.jsonl", DataFormat.MESSAGES, [ChatRow(17, [{"role": "assistant", "content": "a"}], [0])])
    with pytest.raises(TrainerError, match=r"s3://d/t.jsonl row 17: messages: the chat template"):
        tokenize_rows(ChatTokenizer(tiny.tiny_tokenizer(tiny.MISTRAL, [], "</s>", "<s>")), rows)
