"""All of Unicode: a command says what its output takes, its JSON loses nothing, and a log keeps its lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lora_cli.storage.files import open_folder
from lora_cli.storage.records import log_lines
from support.samples import lorajob

URI = "s3://models/größtes-Modell-…"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_letter_that_the_output_has_not_stops_nothing(tmp_path: Path, encoding: str, form: str) -> None:
    file = tmp_path / "lorajob.yaml"
    file.write_text(yaml.safe_dump(lorajob("bot", baseModel={"uri": URI})))
    command = [sys.executable, "-m", "lora_cli.main", "plan", "-f", str(file), "--offline", "--no-preflight"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*command, "-o", form], env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode(encoding)
    if form == "json":
        assert json.loads(said)[0]["spec"]["baseModel"]["uri"] == URI
    else:
        assert URI.encode(encoding, errors="replace").decode(encoding) in said


def test_a_line_of_a_log_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    lines = [json.dumps({"message": text}, ensure_ascii=False) for text in ("a\u2028b", "a\x85b", "…")]
    (tmp_path / "log.jsonl").write_bytes("".join(f"{each}\n" for each in lines).encode())
    assert log_lines(open_folder(f"file://{tmp_path}", None, None)) == lines
