"""The rows of training data, checked and typed, before any tokenizer has seen them.

A complaint about a row names the field, what is wrong and the fix, and never the content.
"""

import hashlib
import json
from typing import Any, NamedTuple

MAX_BAD_ROWS = 10
"""So many bad rows are collected before the reading stops: enough to see a pattern, little enough to read."""

Record = dict[str, Any]
"""One row as its file has it: values by column."""
Message = dict[str, Any]
"""One message as chat templates take it."""


class ChatRow(NamedTuple):
    """A conversation, as the chat template takes it."""

    messages: list[Message]
    trained: list[int]
    """Indices of the messages that are learned; each is an assistant's."""
    tools: list[Any] | None = None


class TextRow(NamedTuple):
    """Plain text, of which the completion is learned. No chat template is applied to it: for that, write messages."""

    prompt: str
    completion: str


class InstructionRow(NamedTuple):
    """A request and its answer, which become a conversation where the base has a chat template, and text elsewhere."""

    system: str
    instruction: str
    """What is asked, with the input under it."""
    output: str


class PairRow(NamedTuple):
    """A better and a worse answer to the same prompt."""

    chosen: ChatRow | TextRow
    rejected: ChatRow | TextRow


class ClassRow(NamedTuple):
    """A text, or a pair of texts, and its class."""

    text: str
    pair: str | None
    label: str


class TagRow(NamedTuple):
    """Words, and one tag for each."""

    words: list[str]
    tags: list[str]


class SourceRow(NamedTuple):
    """A text, and what it is turned into."""

    source: str
    target: str


Row = ChatRow | TextRow | InstructionRow | PairRow | ClassRow | TagRow | SourceRow


class RowError(Exception):
    """What is wrong with one row: field, fault and fix."""


class FileError(Exception):
    """What is wrong with a whole file: fault and fix."""


def digest_of_row(row: Row) -> bytes:
    """Return the SHA-256 of what a row teaches; rows that differ only in unread columns, such as an id, are equal."""
    return hashlib.sha256(json.dumps([type(row).__name__, row], sort_keys=True, default=str).encode()).digest()


def check_text(value: Any, place: str, *, may_be_empty: bool = False) -> str:
    """Return the value if it is a text that can be stored and learned; `RowError` otherwise."""
    if value is None:
        raise RowError(f"{place} is missing; write a string")
    if not isinstance(value, str):
        raise RowError(f"{place} is {kind_of(value)}; write a string")
    if not may_be_empty and not value.strip():
        raise RowError(f"{place} is empty; write the text to learn or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f"{place} holds half of a surrogate pair; write the whole character") from None
    return value


def kind_of(value: Any) -> str:
    """Return what kind of value it is, in words."""
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    if value is None:
        return "null"
    if value in ("", []):
        return f"an empty {'string' if value == '' else 'list'}"
    return kinds.get(type(value), type(value).__name__)


def names_of(record: Record) -> str:
    """Return the names of the columns, bounded."""
    names = sorted(str(name)[:40] for name in record)
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "(none)"
