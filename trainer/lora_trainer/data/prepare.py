"""From rows to examples: tokens, masks, the longest length, and the numbers that the report tells.

Pure apart from the tokenizer. Nothing is dropped or cut without being counted here.
"""

import math
from array import array
from dataclasses import dataclass

from lora_trainer.data.chat import ChatTokenizer, MarkedText, MarkedTokens, mark_chat, mark_text, tokenize
from lora_trainer.data.rows import MAX_BAD_ROWS, ChatRow, RowError, RowSet
from lora_trainer.errors import bad_data

_ROWS_A_CALL = 256
MAX_DEFAULT_LENGTH = 4096
"""Longest row when none is asked for; beyond it activations, not data, decide what fits."""
_LENGTH_STEP = 128
_LENGTH_SHARE = 0.99


@dataclass(frozen=True)
class Example:
    """One row as the model sees it: token ids, and whether each is learned. Both int arrays of one length."""

    ids: "array[int]"
    learned: "array[int]"

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Examples:
    """The examples of one file."""

    examples: list[Example]
    without_end: int
    """Rows with a learned message that no token ends."""


@dataclass(frozen=True)
class Fitted:
    """Examples cut to a length."""

    examples: list[Example]
    truncated: int
    """Rows that were cut."""
    dropped: int
    """Rows of which the cut left nothing to learn; they are part of `truncated`."""

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the examples."""
        return sum(len(example) for example in self.examples)

    @property
    def learned_tokens(self) -> int:
        """Tokens that the loss is taken over."""
        return sum(sum(example.learned) for example in self.examples)


def tokenize_rows(tokenizer: ChatTokenizer, rows: RowSet) -> Examples:
    """Return the examples of checked rows, in their order.

    Raises a `TrainerError` (65) naming the first rows that cannot be rendered or have nothing to learn.
    """
    if not tokenizer.has_template and any(isinstance(row, ChatRow) for row in rows.rows):
        raise bad_data(
            f"{rows.uri}: the rows are conversations, and the tokenizer of the base model has no chat template",
            "use an instruct model, or rows with prompt and completion as strings",
        )
    examples: list[Example] = []
    complaints: list[str] = []
    without_end = 0
    for start in range(0, len(rows.rows), _ROWS_A_CALL):
        marked = _mark(tokenizer, rows, slice(start, start + _ROWS_A_CALL), complaints)
        for tokens in tokenize(tokenizer, marked):
            without_end += not tokens.ends
            if not any(tokens.learned[1:]):  # the first token has no predecessor to be predicted from
                complaints.append(
                    f"{rows.uri} row {tokens.number}: no token of it is learned; add an answer or drop it"
                )
            examples.append(_example(tokens))
        if len(complaints) >= MAX_BAD_ROWS:
            break
    if complaints:
        raise bad_data("; ".join(complaints[:3]) + f" ({len(complaints)} bad rows)", "correct the rows and apply again")
    return Examples(examples, without_end)


def default_max_length(lengths: list[int], model_limit: int) -> int:
    """Return the 99th percentile of the lengths, rounded up to 128, at most 4096 and what the model can place."""
    ordered = sorted(lengths)
    percentile = ordered[math.ceil(_LENGTH_SHARE * len(ordered)) - 1]
    rounded = math.ceil(percentile / _LENGTH_STEP) * _LENGTH_STEP
    return min(rounded, MAX_DEFAULT_LENGTH, model_limit)


def fit_to_length(examples: list[Example], max_length: int) -> Fitted:
    """Cut examples at the right, and drop those with nothing left to learn."""
    kept, truncated, dropped = [], 0, 0
    for example in examples:
        if len(example) <= max_length:
            kept.append(example)
            continue
        truncated += 1
        cut = Example(example.ids[:max_length], example.learned[:max_length])
        if any(cut.learned[1:]):
            kept.append(cut)
        else:
            dropped += 1
    return Fitted(kept, truncated, dropped)


def _mark(tokenizer: ChatTokenizer, rows: RowSet, part: slice, complaints: list[str]) -> list[MarkedText]:
    marked = []
    for row in rows.rows[part]:
        try:
            marked.append(mark_chat(tokenizer, row) if isinstance(row, ChatRow) else mark_text(row))
        except RowError as error:
            complaints.append(f"{rows.uri} row {row.number}: {error}")
            if len(complaints) >= MAX_BAD_ROWS:
                break
    return marked


def _example(tokens: MarkedTokens) -> Example:
    return Example(array("i", tokens.ids), array("b", tokens.learned))
