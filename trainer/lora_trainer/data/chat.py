"""Which text of a row is learned: the assistant's words and what ends them, and nothing else.

It works on any chat template, without `{% generation %}` marks in it, in three ways, each only where it is certain:

1. The template writes one and the same header before each answer. Where the text has as many headers as answers, and
   after one the answer and a token that ends it, that is the place. It takes no further rendering.
2. The conversation up to the answer is a prefix of the whole, and so is the one up to its end: what the whole has
   between the two is learned. It takes a rendering for each answer, and another one for each that is not the last.
3. Where a template renders a prefix differently (some drop earlier thoughts), a marker in place of the message finds
   it.

A row that none explains is an error: to guess would be to train on the question. So is one whose answer the template
leaves out, which would teach to say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lora_trainer.data.rows import ChatRow, Message, RowError, TextRow
from lora_trainer.data.tokens import TEMPLATE_FAULTS, ChatTokenizer

_MARKER = "@@assistant-text@@"


class Span(NamedTuple):
    """Characters of a text, from `start` up to but not including `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class MarkedText:
    """A row as text, with the spans that are learned."""

    text: str
    spans: tuple[Span, ...]
    append_end: bool = False
    """Whether the end of sequence follows the text and is learned; templates write their own."""


def mark_chat(tokenizer: ChatTokenizer, row: ChatRow) -> MarkedText:
    """Render a conversation and find the text of each learned message; `RowError` where that is not certain."""
    full = tokenizer.render_row(row)
    starts = _starts_by_header(tokenizer, row, full)
    return MarkedText(full, tuple(_span(tokenizer, row, index, full, starts.get(index)) for index in row.trained))


def mark_text(row: TextRow) -> MarkedText:
    """Return prompt and completion as one text, of which the completion is learned."""
    whole = row.prompt + row.completion
    return MarkedText(whole, (Span(len(row.prompt), len(whole)),), append_end=True)


def _span(tokenizer: ChatTokenizer, row: ChatRow, index: int, full: str, start: int | None) -> Span:
    end = None if start is None else _end_of_answer(tokenizer, row.messages[index], full, start)
    if start is not None and end is not None:
        return Span(start, end)
    span = _span_by_prefix(tokenizer, row, index, full) or _span_by_marker(tokenizer, row, index, full)
    if span is None:
        raise RowError(
            f"messages[{index}]: its text is not found in the rendered conversation; "
            "the chat template changes it, so split the row so that it is the last message"
        )
    if start is not None and start < span.start:
        span = Span(start, span.end)  # what the template writes between its header and the content is answer too
    _check_written(row.messages[index], full[span.start : span.end], f"messages[{index}]")
    return span


def _starts_by_header(tokenizer: ChatTokenizer, row: ChatRow, full: str) -> dict[int, int]:
    """Return where answers begin, by the index of their message, if the header of answers is before each of them."""
    header = tokenizer.header
    answers = [index for index, message in enumerate(row.messages) if message["role"] == "assistant"]
    if header is None or full.count(header) != len(answers) or _anywhere(header, row.messages):
        return {}
    starts, place = {}, 0
    for index in answers:
        place = full.index(header, place) + len(header)
        starts[index] = place
    return starts


def _anywhere(header: str, messages: Sequence[Message]) -> bool:
    return any(header in str(value) for message in messages for value in message.values())


def _end_of_answer(tokenizer: ChatTokenizer, message: Message, full: str, start: int) -> int | None:
    """Return where an answer of nothing but its content ends, with the token that ends it."""
    content = message.get("content")
    if not isinstance(content, str) or not content or message.keys() > {"role", "content"}:
        return None
    text = content if full.startswith(content, start) else content.strip()
    if not full.startswith(text, start):
        return None
    found = tokenizer.end_pattern.match(full, start + len(text))
    return found.end() if found else None


def _span_by_prefix(tokenizer: ChatTokenizer, row: ChatRow, index: int, full: str) -> Span | None:
    """Return what the conversation has with message `index` and not before it, if both are prefixes of the whole."""
    try:
        start = tokenizer.render(row.messages[:index], row.tools, prompt=True)
        last = index + 1 == len(row.messages)
        end = full if last else tokenizer.render(row.messages[: index + 1], row.tools)
    except TEMPLATE_FAULTS:
        return None
    if full.startswith(start) and full.startswith(end) and len(start) < len(end):
        return Span(len(start), len(end))
    return None


def _span_by_marker(tokenizer: ChatTokenizer, row: ChatRow, index: int, full: str) -> Span | None:
    """Return what stands in the conversation where a marker would stand in place of the message."""
    message = row.messages[index]
    plain = {"role": "assistant", "content": _MARKER}
    # A message without its tool calls and thoughts is changed as a whole. Where that changes the conversation around
    # it, only the content is.
    changes = [plain, message | plain] if isinstance(message.get("content"), str) else [plain]
    return next((span for change in changes if (span := _span_of_marker(tokenizer, row, index, full, change))), None)


def _span_of_marker(tokenizer: ChatTokenizer, row: ChatRow, index: int, full: str, change: Message) -> Span | None:
    changed = [*row.messages[:index], change, *row.messages[index + 1 :]]
    try:
        rendered = tokenizer.render(changed, row.tools)
    except TEMPLATE_FAULTS:
        return None
    if _MARKER in full or rendered.count(_MARKER) != 1:
        return None
    before, _, after = rendered.partition(_MARKER)
    end = len(full) - len(after)
    if full.startswith(before) and full.endswith(after) and len(before) < end:
        return Span(len(before), end)
    return None


def _check_written(message: Message, learned: str, place: str) -> None:
    """Refuse a message whose words or tool calls the template leaves out. Thoughts may be left out."""
    content = message.get("content")
    words = content.rpartition("</think>")[2].strip() if isinstance(content, str) else ""
    if words not in learned:
        raise RowError(
            f"{place}: the chat template of the base model changes its content; write it as the template does"
        )
    calls = message.get("tool_calls")
    functions = [call.get("function", call) for call in calls if isinstance(call, dict)] if calls else []
    if any(isinstance(each, dict) and str(each.get("name", "")) not in learned for each in functions):
        raise RowError(
            f"{place}.tool_calls: the chat template of the base model leaves them out; use a model that calls tools"
        )
