"""The command lines of the documentation: `kubectl lora` takes each, and the table of the operator's flags is whole.

Nothing is run here: a command line is parsed as the program itself would parse it. What the commands of make are called
is checked in `tests/unit/manifests/test_docs.py`.
"""

import re
import shlex
from pathlib import Path

import pytest

from lora_cli.main import build_parser
from lora_operator.app.config import Config, read_config

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "charts").rglob("*.md")])
OPERATOR_PAGE = ROOT / "docs" / "operator-config.md"
ENDS = re.compile(r"(?:\)|\s[|>#&]).*$")
"""What follows a command in a shell: a pipe, a redirection, a comment, the end of a substitution."""


def command_lines() -> list[tuple[str, str]]:
    """Return page and arguments of each `kubectl lora …` in a block of shell."""
    found = []
    for page in PAGES:
        for block in re.findall(
            r"^ *```(?:console|shell|bash)\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            joined = block.replace("\\\n", " ")
            found += [
                (page, each) for each in re.findall(r"^ *(?:\$ |source <\()?kubectl lora (.+)$", joined, re.MULTILINE)
            ]
    return [(str(page.relative_to(ROOT)), ENDS.sub("", line).strip()) for page, line in found]


LINES = command_lines()


def test_there_are_command_lines_to_check() -> None:
    assert len({line.split()[0] for _, line in LINES}) > 5


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}-{line}" for page, line in LINES])
def test_kubectl_lora_takes_the_command_line(page: str, line: str) -> None:
    assert build_parser().parse_args(shlex.split(line))


FLAGS = re.findall(
    r"^\| `(--[a-z-]+)`(?:, [^|]*)? \| `(\w+)`[^|]* \| ([^|]+) \|", OPERATOR_PAGE.read_text(), re.MULTILINE
)


def test_the_table_has_every_flag_of_the_operator_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config(["--help"], {})
    help_text = capsys.readouterr().out.partition("options:")[2]
    entries = re.split(r"\n  (?=-)", help_text)[1:]
    known = {re.findall(r"--[a-z-]+", each)[0]: re.findall(r"\[(\w+)[^]]*\]", each) for each in entries}
    known.pop("--help", None)
    assert {flag: [variable] for flag, variable, _ in FLAGS} == known


DEFAULTS = {
    "--workers": lambda config: config.workers,
    "--resync-seconds": lambda config: config.resync_seconds,
    "--listen": lambda config: config.listen,
    "--health-port": lambda config: config.health_port,
    "--metrics-port": lambda config: config.metrics_port,
    "--log-level": lambda config: config.log_level.lower(),
    "--log-format": lambda config: config.log_format,
}


@pytest.mark.parametrize("flag", DEFAULTS)
def test_a_default_of_the_table_is_the_one_of_the_program(flag: str, tmp_path: Path) -> None:
    config: Config = read_config(["--trainer-image=trainer"], {}, tmp_path / "none")
    (said,) = (default.strip("` ") for each, _, default in FLAGS if each == flag)
    value = DEFAULTS[flag](config)
    assert str(int(value) if isinstance(value, float) else value) == said
