"""How the agent logs: one JSON object a line, one line a transition, to standard error.

A line has what its author names, and nothing else: no environment, no key, no URL with a query, no prompt.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

_LOGGER = logging.getLogger("lora_agent")
_LIMIT = 2_048
"""Characters of one value."""


def configure_logs(stream: TextIO | None = None) -> None:
    """Log everything of the process through one handler."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name in ("aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def info(event: str, **fields: str | float | bool) -> None:
    """Log what happened, as it should."""
    _LOGGER.info(event, extra={"fields": fields})


def warn(event: str, **fields: str | float | bool) -> None:
    """Log what somebody should know."""
    _LOGGER.warning(event, extra={"fields": fields})


def error(event: str, trouble: BaseException) -> None:
    """Log a fault of the agent itself, with the place in the code; the text of the exception may hold anything."""
    place = trouble.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place is not None else ""
    _LOGGER.error(event, extra={"fields": {"error": type(trouble).__name__, "where": where}})


class JsonFormatter(logging.Formatter):
    """One JSON object a line, plain ASCII, so that no collector can stumble over it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:_LIMIT],
        }
        for name, value in getattr(record, "fields", {}).items():
            line[name] = value[:_LIMIT] if isinstance(value, str) else value
        return json.dumps(line)
