"""Expected texts as files: `LORA_REFRESH_GOLDEN=1 pytest tests/unit/cli` writes them anew, to be read in the diff."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def assert_golden(name: str, lines: list[str]) -> None:
    """Compare lines with those of the file."""
    path, text = _FOLDER / f"{name}.txt", "".join(f"{each}\n" for each in lines)
    if os.environ.get("LORA_REFRESH_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
