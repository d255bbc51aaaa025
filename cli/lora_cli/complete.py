"""What may follow on a command line, for a shell that asks: pure, but for the names, which are asked for.

The answer has the form of cobra, which kubectl expects of `kubectl_complete-lora`: a candidate a line, then `:` and a
number that says whether files may follow too.
"""

from argparse import Action
from collections.abc import Callable, Sequence

from lora_cli.cluster.connection import LORAADAPTERS, LORAJOBS, Resource
from lora_cli.parser import Parser

NO_FILES, FILES = 4, 0
AskNames = Callable[[Resource], list[str]]
_NAMES: dict[str, tuple[Resource, ...]] = {
    "watch": (LORAJOBS,),
    "logs": (LORAJOBS,),
    "plot": (LORAJOBS,),
    "why": (LORAJOBS, LORAADAPTERS),
    "verify": (LORAADAPTERS,),
    "reproduce": (LORAADAPTERS,),
}
"""Commands that take a name, and of what."""
_FILE_OPTIONS = ("--filename", "--kubeconfig", "--work", "--file", "--operator-config")


def complete(parser: Parser, words: Sequence[str], names: AskNames) -> tuple[list[str], int]:
    """Return the candidates for the last word, and whether files may follow. `words` are those behind `lora`."""
    *before, current = words or [""]
    command, rest = _command(parser, before)
    here = parser.commands.get(command, parser)
    if option := _open_option(here, before[-1:]):
        if set(option.option_strings) & set(_FILE_OPTIONS):
            return [], FILES
        return _matching([str(each) for each in option.choices or ()], current), NO_FILES
    if current.startswith("-"):
        return _matching([name for each in here.actions for name in each.option_strings], current), NO_FILES
    if not command:
        return _matching(parser.commands, current), NO_FILES
    return _matching(_positional(here, command, rest, names), current), NO_FILES


def _command(parser: Parser, words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command among the words, and the words that are neither it nor an option nor its value."""
    plain: list[str] = []
    skip = False
    for each in words:
        here = parser.commands.get(plain[0], parser) if plain else parser
        if not skip and not each.startswith("-"):
            plain.append(each)
        skip = not skip and _open_option(here, [each]) is not None
    return (plain[0], plain[1:]) if plain and plain[0] in parser.commands else ("", plain)


def _open_option(parser: Parser, last: Sequence[str]) -> Action | None:
    """Return the option that waits for its value."""
    return next((each for each in parser.actions if each.nargs is None and set(last) & set(each.option_strings)), None)


def _positional(parser: Parser, command: str, rest: list[str], names: AskNames) -> list[str]:
    if rest:
        return []
    choices = [str(one) for each in parser.actions if not each.option_strings for one in each.choices or ()]
    return choices or [name for each in _NAMES.get(command, ()) for name in names(each)]


def _matching(candidates: Sequence[str] | dict[str, Parser], start: str) -> list[str]:
    return sorted({each for each in candidates if each.startswith(start)})
