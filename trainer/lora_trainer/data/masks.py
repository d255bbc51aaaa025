"""From spans of a text to its tokens: which of them are learned, up to and with the one that ends an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_trainer.data.chat import MarkedText, Span
from lora_trainer.data.tokens import ChatTokenizer


@dataclass(frozen=True)
class MarkedTokens:
    """A row as tokens, with the runs that are learned."""

    ids: list[int]
    runs: tuple[range, ...]
    ends: bool
    """Whether each run ends with a token that stops a generation."""


def tokenize(tokenizer: ChatTokenizer, marked: Sequence[MarkedText]) -> list[MarkedTokens]:
    """Return the tokens of each text and which of them are learned. One call of the tokenizer for all."""
    encodings = tokenizer.encode([each.text for each in marked])
    return [_marked_tokens(tokenizer, each, encoding) for each, encoding in zip(marked, encodings, strict=True)]


def _marked_tokens(tokenizer: ChatTokenizer, marked: MarkedText, encoding: Any) -> MarkedTokens:
    ids: list[int] = encoding.ids
    if marked.append_end:
        return _with_end(tokenizer, ids, [_covering(span, encoding) for span in marked.spans])
    runs = tuple(_run(tokenizer, span, encoding, ids, marked.text) for span in marked.spans)
    return MarkedTokens(ids, runs, all(len(run) > 0 and ids[run[-1]] in tokenizer.end_ids for run in runs))


def _with_end(tokenizer: ChatTokenizer, ids: list[int], runs: list[range]) -> MarkedTokens:
    begin, end = tokenizer.begin_ids, [tokenizer.end_id] if tokenizer.end_id is not None else []
    moved = [range(run.start + len(begin), run.stop + len(begin)) for run in runs]
    if moved and end:
        moved[-1] = range(moved[-1].start, moved[-1].stop + 1)
    return MarkedTokens([*begin, *ids, *end], tuple(moved), bool(end))


def _run(tokenizer: ChatTokenizer, span: Span, encoding: Any, ids: list[int], text: str) -> range:
    first, last = encoding.char_to_token(span.start), encoding.char_to_token(span.end - 1)
    if first is not None and last is not None and ids[last] in tokenizer.end_ids:
        return range(first, last + 1)
    return _up_to_end(tokenizer, _covering(span, encoding), ids, encoding.offsets, text)


def _covering(span: Span, encoding: Any) -> range:
    """Return the tokens that hold at least one character of the span.

    Where the border falls into a token, the token is learned: to drop it would drop the start of the answer. A token
    begins where the one before it ends, as some tokenizers leave white space out of the offsets.
    """
    begin, first, stop = 0, None, 0
    for index, (_, end) in enumerate(encoding.offsets):
        if end > span.start and first is None:
            first = index
        if first is not None and (begin < span.end or end <= span.end):
            stop = index + 1
        begin = max(begin, end)
    return range(first, max(first, stop)) if first is not None else range(0)


def _up_to_end(
    tokenizer: ChatTokenizer, tokens: range, ids: list[int], offsets: list[tuple[int, int]], text: str
) -> range:
    """Let the tokens end with the one that stops a generation.

    White space that the template puts after it is not learned, as it is never generated; an end that stands right
    after the tokens belongs to them.
    """
    if not tokens:
        return tokens
    for position in reversed(tokens):
        if ids[position] in tokenizer.end_ids:
            return range(tokens.start, position + 1)
        if text[slice(*offsets[position])].strip():
            break
    for position in range(tokens.stop, len(ids)):
        if ids[position] in tokenizer.end_ids:
            return range(tokens.start, position + 1)
        if text[slice(*offsets[position])].strip():
            break
    return tokens
