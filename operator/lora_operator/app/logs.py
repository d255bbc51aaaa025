"""How the process logs: one line for each record, as JSON for machines or as text for people, with the pass it is of.

One handler for all loggers, Kopf's and aiohttp's too; `kopf.configure` would add a second one and is not called. No
object is ever logged as a whole: a line has the key of the object, and what the message says.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from lora_operator.reconcile.keys import Key

_LIMIT = 8_192
"""Characters of one message or traceback. Some collectors cut a line at 16 kB, and a cut line is no JSON."""
_NOISY = ("kopf.objects", "kopf.activities.probe", "aiohttp.access")
"""They write a line for each event of each object, and two for each probe."""


@dataclass(slots=True)
class _Pass:
    """The pass under way. One value for a pass and all tasks that it starts, so that each sees the generation."""

    key: Key
    generation: int | None = None


_PASS: ContextVar[_Pass | None] = ContextVar("pass", default=None)
_MARK = "lora_pass"
"""Attribute of an exception that ended a pass: whoever logs it, when the pass is over, still speaks of that pass."""


@contextmanager
def pass_context(key: Key, generation: int | None = None) -> Iterator[None]:
    """Give every line that is logged within, in this task or one that it starts, the key and the generation."""
    current = _Pass(key, generation)
    token = _PASS.set(current)
    try:
        yield
    except Exception as error:
        vars(error)[_MARK] = current
        raise
    finally:
        _PASS.reset(token)


def set_generation(generation: int) -> None:
    """Say of which generation the pass under way is, as soon as its object is read."""
    current = _PASS.get()
    if current is not None:
        current.generation = generation


def configure_logs(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Log everything of the process through one handler, to standard error unless another stream is given."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter() if log_format == "text" else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. It is plain ASCII, so that no terminal or collector can stumble over it."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage()),
        }
        key, generation = _subject(record)
        found = {"key": key, "generation": generation, "reason": _reason(record), "error": _error(record)}
        return json.dumps(line | {name: value for name, value in found.items() if value is not None})


class TextFormatter(logging.Formatter):
    """Time, level, logger, object and message. A traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        key, generation = _subject(record)
        subject = f"{key['kind']} {key['namespace']}/{key['name']}" if key else ""
        subject += f" (generation {generation})" if generation is not None else ""
        reason = _reason(record)
        told = [each for each in (subject, reason, _one_line(_cut(record.getMessage()))) if each]
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {': '.join(told)}"
        error = _error(record)
        return f"{line}\n{error}" if error else line


def _time(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def _subject(record: logging.LogRecord) -> tuple[dict[Literal["kind", "namespace", "name"], str] | None, int | None]:
    """Return the object that a record speaks of: that of the pass, or the one that Kopf names."""
    current = _PASS.get() or _failed_pass(record)
    if current is not None:
        kind, namespace, name = current.key
        return {"kind": kind.value, "namespace": namespace, "name": name}, current.generation
    named = getattr(record, "k8s_ref", None)
    if not isinstance(named, dict):
        return None, None
    return {
        "kind": str(named.get("kind") or ""),
        "namespace": str(named.get("namespace") or ""),
        "name": str(named.get("name") or ""),
    }, None


def _failed_pass(record: logging.LogRecord) -> _Pass | None:
    error = record.exc_info[1] if record.exc_info else None
    marked = vars(error).get(_MARK) if error is not None else None
    return marked if isinstance(marked, _Pass) else None


def _reason(record: logging.LogRecord) -> str | None:
    reason = getattr(record, "reason", None)
    return str(reason) if reason else None


def _error(record: logging.LogRecord) -> str | None:
    """Return the traceback; of one that is too long its end, where the exception stands."""
    if record.exc_info and record.exc_info[0] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    elif record.exc_text:
        text = record.exc_text
    else:
        return None
    return text if len(text) <= _LIMIT else "…" + text[1 - _LIMIT :]


def _cut(text: str) -> str:
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"


def _one_line(text: str) -> str:
    """Return the text without line breaks: what somebody else wrote cannot look like a line of ours."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
