"""Rows of training data: from the lines of a jsonl file to checked, typed rows.

Each complaint names the file, the row (the line number, from 1), the field, what is wrong and the fix, and never the
content. No tokenizer here: what a row becomes is decided in `chat` and `prepare`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lora_api.sources import DataFormat
from lora_trainer.errors import TrainerError, bad_data

MAX_BAD_ROWS = 10
"""So many bad rows are collected before the reading stops: enough to see a pattern, little enough to read."""
_NAMED_ROWS = 3

ROLES = ("system", "developer", "user", "assistant", "tool")
_PASSED_ON = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking")


@dataclass(frozen=True)
class ChatRow:
    """A conversation, as the chat template takes it."""

    number: int
    """Line in the file, from 1."""
    messages: list[dict[str, Any]]
    trained: list[int]
    """Indices of the messages that are learned; each is an assistant's."""
    tools: list[Any] | None = None


@dataclass(frozen=True)
class TextRow:
    """Plain text, of which the completion is learned. No chat template is applied to it: for that, write messages."""

    number: int
    prompt: str
    completion: str


Row = ChatRow | TextRow


@dataclass(frozen=True)
class RowSet:
    """The rows of one file."""

    uri: str
    format: DataFormat
    rows: list[Row]
    detected: str = ""
    """What the detection of the format went by, for the report."""
    digests: list[str] = field(default_factory=list)
    """SHA-256 of what each row teaches; rows that differ only in other fields, such as an id, have equal digests."""


class RowError(Exception):
    """What is wrong with one row: field, fault and fix."""


def read_rows(uri: str, lines: Iterable[bytes], wanted: DataFormat) -> RowSet:
    """Parse and check the lines of a jsonl file.

    Raises a `TrainerError` (65) that counts the bad rows up to `MAX_BAD_ROWS` and names the first ones.
    """
    rows: list[Row] = []
    digests: list[str] = []
    complaints: list[str] = []
    found: DataFormat | None = None if wanted is DataFormat.AUTO else wanted
    detected = f"asked for: {wanted.value}"
    for number, line in _numbered(lines):
        try:
            record = _parse(line)
            if found is None:
                found, detected = detect_format(record), f"row {number} has the fields {_names(record)}"
            row = _READERS[found](number, record)
            rows.append(row)
            digests.append(_digest(row))
        except RowError as error:
            complaints.append(f"{uri} row {number}: {error}")
        if len(complaints) >= MAX_BAD_ROWS:
            break
    if complaints:
        raise _complaint(complaints)
    if not rows or found is None:
        raise bad_data(f"{uri}: the file has no rows", "write one JSON object a line")
    return RowSet(uri, found, rows, detected, digests)


def detect_format(record: dict[str, Any]) -> DataFormat:
    """Return the format that the fields of a row speak for; `RowError` when none does."""
    if "messages" in record:
        return DataFormat.MESSAGES
    if "prompt" in record and "completion" in record:
        return DataFormat.PROMPT_COMPLETION
    if "conversations" in record:
        hint = "rename conversations to messages, from to role and value to content"
    else:
        hint = "write messages (a list of role and content), or prompt and completion"
    raise RowError(f"the fields {_names(record)} match no format; {hint}")


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, start=1):
        content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line  # byte-order mark
        if content.strip():
            yield number, content


def _complaint(complaints: list[str]) -> TrainerError:
    named = "; ".join(complaints[:_NAMED_ROWS])
    count = f"{MAX_BAD_ROWS} or more" if len(complaints) >= MAX_BAD_ROWS else str(len(complaints))
    more = f" ({count} bad rows)" if len(complaints) > _NAMED_ROWS else ""
    return bad_data(f"{named}{more}", "correct the rows and apply again")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise RowError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON: {error.msg} at column {error.colno}; write one JSON object a line") from None
    except RecursionError:
        raise RowError("nested too deeply; write one flat JSON object a line") from None
    if not isinstance(record, dict):
        raise RowError(f"is {_kind(record)}; write a JSON object")
    return record


def _read_messages(number: int, record: dict[str, Any]) -> Row:
    messages, trained = _messages(record.get("messages"), "messages")
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError(
            "messages has no assistant message, so there is nothing to learn; add the answer or drop the row"
        )
    if not trained:
        raise RowError("every assistant message has train: false, so there is nothing to learn; drop the row")
    return ChatRow(number, messages, trained, _tools(record))


def _read_prompt_completion(number: int, record: dict[str, Any]) -> Row:
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        before, _ = _messages(prompt, "prompt")
        after, trained = _messages(completion, "completion")
        if not trained:
            raise RowError("completion has no assistant message; write the answer with role assistant")
        return ChatRow(number, before + after, [index + len(before) for index in trained], _tools(record))
    if isinstance(prompt, list) or isinstance(completion, list):
        raise RowError("one of prompt and completion is a list; write two strings or two lists of messages")
    _check_text(prompt, "prompt", may_be_empty=True)
    _check_text(completion, "completion")
    return TextRow(number, str(prompt), str(completion))


_READERS = {DataFormat.MESSAGES: _read_messages, DataFormat.PROMPT_COMPLETION: _read_prompt_completion}


def _messages(value: Any, name: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the messages, reduced to what templates read, and the indices of those that are learned."""
    if value is None:
        raise RowError(f"{name} is missing; write a list of messages with role and content")
    if not isinstance(value, list) or not value:
        raise RowError(f"{name} is {_kind(value)}; write a list of messages with role and content")
    messages, trained = [], []
    for index, message in enumerate(value):
        place = f"{name}[{index}]"
        if not isinstance(message, dict):
            raise RowError(f"{place} is {_kind(message)}; write an object with role and content")
        if _check_message(message, place):
            trained.append(index)
        messages.append({key: message[key] for key in _PASSED_ON if key in message})
    return messages, trained


def _check_message(message: dict[str, Any], place: str) -> bool:
    """Check one message, and return whether it is learned."""
    role = message.get("role")
    if role not in ROLES:
        fault = "is missing" if role is None else "is not a known role"
        raise RowError(f"{place}.role {fault}; write one of {', '.join(ROLES)}")
    if message.get("content") is not None or not message.get("tool_calls"):
        _check_text(message.get("content"), f"{place}.content", may_be_empty=role != "assistant")
    train = message.get("train", True)
    if not isinstance(train, bool):
        raise RowError(f"{place}.train is {_kind(train)}; write true or false")
    weight = message.get("weight", 1)  # the same wish in the format of hosted fine-tuning services
    if weight not in (0, 1):
        raise RowError(f"{place}.weight is neither 0 nor 1; write train: true or train: false")
    return role == "assistant" and train and bool(weight)


def _check_text(value: Any, place: str, *, may_be_empty: bool = False) -> None:
    if value is None:
        raise RowError(f"{place} is missing; write a string")
    if not isinstance(value, str):
        raise RowError(f"{place} is {_kind(value)}; write a string")
    if not may_be_empty and not value.strip():
        raise RowError(f"{place} is empty; write the text to learn or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f"{place} holds half of a surrogate pair; write the whole character") from None


def _tools(record: dict[str, Any]) -> list[Any] | None:
    tools = record.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise RowError(f"tools is {_kind(tools)}; write a list of tool descriptions")
    return tools or None


def _digest(row: Row) -> str:
    content = {key: value for key, value in vars(row).items() if key != "number"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _names(record: dict[str, Any]) -> str:
    names = sorted(str(name)[:40] for name in record)
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "(none)"


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    if value is None:
        return "null"
    if value in ("", []):
        return f"an empty {'string' if value == '' else 'list'}"
    return kinds.get(type(value), type(value).__name__)
