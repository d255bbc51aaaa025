"""One line of a trainer's log for people. What is no line of the trainer is shown as it is."""

import json
from typing import Any

from lora_api.exit_codes import ExitCode

_FIRST = ("time", "level", "message")
_NO_LEVEL = "info"
_PLACES_IN_THE_CODE = ("exception", "places")
"""Of an end that was foreseen its message says all; places help whoever mends the trainer."""


def pretty(line: str) -> str:
    """Return `12:03:04 message key=value …`; a level that is not info stands before the message.

    Where in the code an error was met is shown of an internal error only.
    """
    event = parsed(line)
    if event is None:
        return printable(line)
    time = str(event.get("time", ""))[11:19]
    level = str(event.get("level", _NO_LEVEL))
    hidden = _FIRST if event.get("exitCode") == ExitCode.INTERNAL_ERROR else (*_FIRST, *_PLACES_IN_THE_CODE)
    fields = " ".join(f"{name}={_value(value)}" for name, value in event.items() if name not in hidden)
    parts = [time, "" if level == _NO_LEVEL else level.upper(), str(event.get("message", "")), fields]
    return printable(" ".join(each for each in parts if each))


def parsed(line: str) -> dict[str, Any] | None:
    """Return the record of a line, or None if it is none of the trainer's."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "message" in event else None


def printable(text: str) -> str:
    """Return the text without control characters: what a container wrote must not steer the terminal."""
    return "".join(each if each.isprintable() or each == "\t" else "�" for each in text.rstrip("\r\n"))


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if " " in text and isinstance(value, str) else text
