"""Logs as JSON lines: on stdout for whoever reads the pod, and in a file that is uploaded at the end.

A line has time, level, message and the fields of the call (`extra={"fields": {...}}`). Rows of data and secrets are
never logged; whoever logs is responsible for that, this module only writes.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger("lora_trainer")


def log(message: str, **fields: Any) -> None:
    """Log one event with its fields."""
    logger.info(message, extra={"fields": fields})


def warn(message: str, **fields: Any) -> None:
    """Log one thing that the user should know."""
    logger.warning(message, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Of an exception only the type and the places, never its text, which may quote data."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["places"] = _places(record.exc_info[2])
        return json.dumps(line, default=str, ensure_ascii=False)


def log_to_stdout() -> None:
    """Send the logs of this package, and the warnings of all others, to stdout."""
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, JsonFormatter)]:
        root.removeHandler(old)
        old.close()
    _add(logging.StreamHandler(sys.stdout))
    logging.captureWarnings(capture=True)
    root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)


def log_to_file(path: Path) -> None:
    """Send the same to a file, which begins with this process."""
    _add(logging.FileHandler(path, mode="w", encoding="utf-8"))


def _add(handler: logging.Handler) -> None:
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)


def _places(traceback: Any) -> list[str]:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-12:]
