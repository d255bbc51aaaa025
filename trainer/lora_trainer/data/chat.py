"""Which tokens of a row are learned: the assistant's words and the token that ends them, and nothing else.

It works on any chat template, without `{% generation %}` marks in it. The text of an assistant message is what the
rendered conversation has with the message and not before it; its tokens are those that the tokenizer puts there. Where
a template renders a prefix differently (some drop earlier thoughts), a marker in place of the message finds the text
instead. A row that neither way explains is an error: to guess would be to train on the question.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import TemplateError

from lora_trainer.data.rows import ChatRow, RowError, TextRow

# Names of tokens that end a turn in the common templates. The tokenizer's own end of sequence is added to them.
_TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|endoftext|>", "</s>",
    "<|END_OF_TURN_TOKEN|>", "<|return|>", "<|call|>", "<|end_of_text|>", "<|user_end|>", "<|eot|>",
)  # fmt: skip
_TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError)


class Span(NamedTuple):
    """Characters of a text, from `start` up to but not including `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class MarkedText:
    """A row as text, with the spans that are learned."""

    number: int
    """Line of the row in its file."""
    text: str
    spans: tuple[Span, ...]
    append_end: bool = False
    """Whether the end of sequence follows the text and is learned; templates write their own."""


@dataclass(frozen=True)
class MarkedTokens:
    """A row as tokens. `learned` is as long as `ids`."""

    number: int
    ids: list[int]
    learned: list[bool]
    ends: bool
    """Whether each learned span ends with a token that stops a generation."""


class ChatTokenizer:
    """A tokenizer of transformers, as far as masks need one."""

    def __init__(self, tokenizer: Any, extra_end_ids: Iterable[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.end_id: int | None = tokenizer.eos_token_id
        vocabulary = tokenizer.get_vocab()
        named = {vocabulary[name] for name in _TURN_ENDS if name in vocabulary}
        self.end_ids = frozenset(named | set(extra_end_ids) | ({self.end_id} if self.end_id is not None else set()))
        empty = tokenizer("")["input_ids"]
        begins = tokenizer.bos_token_id is not None and empty[:1] == [tokenizer.bos_token_id]
        self.begin_ids: list[int] = empty[:1] if begins else []
        """What the tokenizer puts before plain text; a chat template writes its own."""

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        return bool(self.tokenizer.chat_template)

    def render(self, messages: Sequence[dict[str, Any]], tools: list[Any] | None, *, prompt: bool = False) -> str:
        """Return the conversation as text; with `prompt`, up to where the assistant would speak next."""
        return str(
            self.tokenizer.apply_chat_template(
                list(messages), tools=tools, tokenize=False, add_generation_prompt=prompt
            )
        )

    def encode(self, texts: list[str]) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Return the token ids of each text, and for each token its characters (start, end)."""
        if not texts:
            return [], []
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"]


def mark_chat(tokenizer: ChatTokenizer, row: ChatRow) -> MarkedText:
    """Render a conversation and find the text of each learned message; `RowError` where that is not certain."""
    try:
        full = tokenizer.render(row.messages, row.tools)
    except _TEMPLATE_FAULTS as error:
        fault = str(error)[:200] if isinstance(error, TemplateError) else type(error).__name__
        raise RowError(
            f"messages: the chat template of the base model refuses them ({fault}); change the roles"
        ) from None
    spans = []
    for index in row.trained:
        span = _span_by_prefix(tokenizer, row, index, full) or _span_by_marker(tokenizer, row, index, full)
        if span is None:
            raise RowError(
                f"messages[{index}]: its text is not found in the rendered conversation; "
                "the chat template changes it, so split the row so that it is the last message"
            )
        spans.append(span)
    return MarkedText(row.number, full, tuple(spans))


def mark_text(row: TextRow) -> MarkedText:
    """Return prompt and completion as one text, of which the completion is learned."""
    whole = row.prompt + row.completion
    return MarkedText(row.number, whole, (Span(len(row.prompt), len(whole)),), append_end=True)


def tokenize(tokenizer: ChatTokenizer, marked: Sequence[MarkedText]) -> list[MarkedTokens]:
    """Return the tokens of each text and which of them are learned. One call of the tokenizer for all."""
    texts: list[str] = []
    places: list[tuple[int, list[int]]] = []
    for each in marked:
        borders = sorted({border for span in each.spans for border in span} - {0, len(each.text)})
        places.append((len(texts), borders))
        texts += [each.text, *(each.text[:border] for border in borders)]
    ids, offsets = tokenizer.encode(texts)
    result = []
    for each, (first, borders) in zip(marked, places, strict=True):
        counts = _counts(ids[first], dict(zip(borders, ids[first + 1 :], strict=False)), len(each.text))
        result.append(_marked_tokens(tokenizer, each, ids[first], offsets[first], counts))
    return result


def _span_by_prefix(tokenizer: ChatTokenizer, row: ChatRow, index: int, full: str) -> Span | None:
    """Return what the conversation has with message `index` and not before it, if both are prefixes of the whole."""
    try:
        start = tokenizer.render(row.messages[:index], row.tools, prompt=True)
        last = index + 1 == len(row.messages)
        end = full if last else tokenizer.render(row.messages[: index + 1], row.tools)
    except _TEMPLATE_FAULTS:
        return None
    if full.startswith(start) and full.startswith(end) and len(start) < len(end):
        return Span(len(start), len(end))
    return None


def _span_by_marker(tokenizer: ChatTokenizer, row: ChatRow, index: int, full: str) -> Span | None:
    """Return what stands in the conversation where a marker would stand in place of the content."""
    if not isinstance(row.messages[index].get("content"), str):
        return None
    marker = "@@assistant-text@@"
    changed = [dict(message) for message in row.messages]
    changed[index]["content"] = marker
    try:
        rendered = tokenizer.render(changed, row.tools)
    except _TEMPLATE_FAULTS:
        return None
    if marker in full or rendered.count(marker) != 1:
        return None
    before, _, after = rendered.partition(marker)
    end = len(full) - len(after)
    if full.startswith(before) and full.endswith(after) and len(before) < end:
        return Span(len(before), end)
    return None


def _counts(whole: list[int], prefixes: dict[int, list[int]], length: int) -> dict[int, int]:
    """Return for each border how many tokens lie before it, where the tokens of the prefix are those of the whole."""
    counts = {0: 0, length: len(whole)}
    for border, prefix in prefixes.items():
        if whole[: len(prefix)] == prefix:
            counts[border] = len(prefix)
    return counts


def _marked_tokens(
    tokenizer: ChatTokenizer, marked: MarkedText, ids: list[int], offsets: list[tuple[int, int]], counts: dict[int, int]
) -> MarkedTokens:
    learned = [False] * len(ids)
    ends = True
    for span in marked.spans:
        if span.start in counts and span.end in counts:
            tokens = range(counts[span.start], counts[span.end])
        else:
            tokens = _tokens_by_offsets(span, offsets)
        if not marked.append_end:
            tokens = _up_to_end(tokenizer, tokens, ids, offsets, marked.text)
            ends = ends and len(tokens) > 0 and ids[tokens[-1]] in tokenizer.end_ids
        for position in tokens:
            learned[position] = True
    if marked.append_end:
        begin, end = tokenizer.begin_ids, [tokenizer.end_id] if tokenizer.end_id is not None else []
        ids, learned = [*begin, *ids, *end], [False] * len(begin) + learned + [True] * len(end)
        ends = bool(end)
    return MarkedTokens(marked.number, ids, learned, ends)


def _tokens_by_offsets(span: Span, offsets: list[tuple[int, int]]) -> range:
    """Return the tokens that hold at least one character of the span.

    Here the border falls into a token. The token is learned: to drop it would drop the start of the answer.
    """
    inside = [index for index, (start, end) in enumerate(offsets) if start < span.end and end > span.start]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


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
