"""How a container starts its program: the words, the flags that are set, and what a variable holds. Pure.

A plain command can be given another flag; a shell script can be read and is left alone; of everything else nothing is
known. The difference decides what the webhook may touch, so in doubt a command is not plain.
"""

import posixpath
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Document = dict[str, Any]

_PYTHON: Final = re.compile(r"^python[0-9.]*$")
_PYTHON_OPTIONS: Final = re.compile(r"^-[uBEIOs]+$")
"""Options of the interpreter that take no value."""
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "busybox"})
_SHELL_SCRIPT: Final = re.compile(r"^-[a-z]*c[a-z]*$")
_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
"""What the kubelet replaces: `$$` by `$`, and `$(NAME)`."""
_SHELL_REFERENCE: Final = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_PROGRAM: Final = re.compile(r"(^|/)(s?bin|libexec)/|\.(sh|py|bash)$")
_STARTERS: Final = frozenset({"env", "tini", "dumb-init", "numactl", "nice", "exec", "ray", "torchrun", "mpirun", "uv"})


class Shape(StrEnum):
    """How much of a command is known."""

    PLAIN = "plain"
    """The engine's own command: a flag at the end is a flag of the engine."""
    SCRIPT = "script"
    """The engine's command within a shell script: it can be read, and not changed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A container's command with its arguments."""

    shape: Shape
    found: bool
    """Whether the command itself says which engine it is."""
    words: tuple[str, ...]
    """Arguments of the engine; none of an unknown command."""
    environment: tuple[Document, ...]

    def has(self, flag: str) -> bool:
        """Return whether a flag is set, in any of its spellings, or is denied by its `--no-` form."""
        return any(_flag_of(each) in (flag, _denial(flag)) for each in self.words)

    def denies(self, flag: str) -> bool:
        """Return whether a flag is switched off in so many words."""
        return any(_flag_of(each) == _denial(flag) for each in self.words)

    def raw(self, flag: str) -> str | None:
        """Return the value of a flag as it is written, the last one if there are several; None if it has none."""
        found = None
        for index, word in enumerate(self.words):
            if _flag_of(word) == flag:
                _, equals, after = word.partition("=")
                follower = self.words[index + 1] if index + 1 < len(self.words) else ""
                found = after if equals else (follower if follower and not follower.startswith("--") else None)
        return found

    def value(self, flag: str) -> str | None:
        """Return the value of a flag with its variables filled in; None if it has none, or it cannot be known."""
        raw = self.raw(flag)
        return None if raw is None else self.expand(raw)

    def literal(self, name: str) -> str | None:
        """Return what a variable of the container holds; None if it is not there, or comes from elsewhere."""
        entry = self.variable(name)
        return None if entry is None or entry.get("valueFrom") else self.expand(entry.get("value") or "", depth=1)

    def variable(self, name: str) -> Document | None:
        """Return the entry of a variable, the last one if there are several, as for the kubelet."""
        return next((each for each in reversed(self.environment) if each.get("name") == name), None)

    def expand(self, text: str, depth: int = 0) -> str | None:
        """Return a text with its `$(NAME)` filled in; None if one of them cannot be known here."""
        if depth > 4:
            return None
        result, end = "", 0
        for match in _REFERENCE.finditer(text):
            part = self._part(match[1], depth) if match[1] else "$"
            if part is None:
                return None
            result, end = result + text[end : match.start()] + part, match.end()
        return result + text[end:]

    def _part(self, name: str, depth: int) -> str | None:
        entry = self.variable(name)
        return None if entry is None or entry.get("valueFrom") else self.expand(entry.get("value") or "", depth + 1)


def reference(text: str) -> str | None:
    """Return NAME if a text is `$(NAME)` and nothing else."""
    match = _REFERENCE.fullmatch(text.strip())
    return match[1] if match else None


def read_command_line(container: Document, commands: Sequence[Sequence[str]]) -> CommandLine:
    """Return how a container starts, given the beginnings of the commands that start the engine."""
    command, arguments = _words(container, "command"), _words(container, "args")
    environment = tuple(container.get("env") or ())
    words = [*command, *arguments]
    if (rest := _after_command(words, commands)) is not None and "--" not in rest:
        return CommandLine(Shape.PLAIN, True, tuple(rest), environment)
    if (script := _script_of(words)) is not None:
        inner = _after_command_in(script, commands)
        return CommandLine(Shape.SCRIPT, inner is not None, tuple(inner or ()), environment)
    if not command and _are_arguments(arguments):
        return CommandLine(Shape.PLAIN, False, tuple(arguments), environment)
    return CommandLine(Shape.UNKNOWN, False, (), environment)


def _words(container: Document, field: str) -> list[str]:
    return [str(each) for each in container.get(field) or []]


def _after_command(words: Sequence[str], commands: Sequence[Sequence[str]]) -> list[str] | None:
    """Return what follows the engine's command at the beginning of some words; None if they begin otherwise."""
    rest = _without_python(words)
    for command in commands:
        head = [posixpath.basename(each) if index == 0 else each for index, each in enumerate(rest[: len(command)])]
        if head == list(command):
            return list(rest[len(command) :])
    return None


def _without_python(words: Sequence[str]) -> list[str]:
    """Return the words after `python -m`, or after a script's interpreter; else all of them."""
    if not words or not _PYTHON.match(posixpath.basename(words[0])):
        return list(words)
    rest = list(words[1:])
    while rest and _PYTHON_OPTIONS.match(rest[0]):
        rest = rest[1:]
    return rest[1:] if rest[:1] == ["-m"] else rest


def _script_of(words: Sequence[str]) -> str | None:
    """Return the script of `sh -c SCRIPT`."""
    if not words or posixpath.basename(words[0]) not in _SHELLS:
        return None
    for index, word in enumerate(words[1:], start=1):
        if _SHELL_SCRIPT.match(word) and index + 1 < len(words):
            return words[index + 1]
    return ""


def _after_command_in(script: str, commands: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the arguments of the engine within a script, with the shell's variables written as Kubernetes' own."""
    try:
        words = shlex.split(script.replace("\\\n", " "), comments=True)
    except ValueError:  # an unclosed quote: the shell will say so
        words = script.split()
    for start in range(len(words)):
        if (rest := _after_command(words[start:], commands)) is not None:
            return [_SHELL_REFERENCE.sub(r"$(\1)", each) for each in rest]
    return None


def _are_arguments(arguments: Sequence[str]) -> bool:
    """Return whether the arguments of an image look like those of its own entrypoint, and not like another program."""
    if not arguments or "--" in arguments:
        return False
    first = arguments[0]
    name = posixpath.basename(first)
    known = name in _SHELLS | _STARTERS or _PYTHON.match(name) or _PROGRAM.search(first)
    return first.startswith("-") or not known


def _flag_of(word: str) -> str:
    """Return a flag as it is called in manuals: --max_lora_rank=8 is --max-lora-rank."""
    name = word.partition("=")[0]
    return "--" + name[2:].replace("_", "-") if name.startswith("--") else name


def _denial(flag: str) -> str:
    return "--no-" + flag.removeprefix("--")
