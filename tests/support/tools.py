"""Programs that no cluster needs and some tests do, at the version that the tree pins."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BUILD_SECONDS = 1500


def find_tool(name: str) -> str:
    """Return the program: what LORA_HELM or the like names, or the pinned one, which is built the first time."""
    named = os.environ.get(f"LORA_{name.upper()}")
    if named:
        return named
    command = [sys.executable, str(ROOT / "hack" / "devcluster"), name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_BUILD_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed"
    return done.stdout.strip()
