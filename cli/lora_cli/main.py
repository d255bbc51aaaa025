"""`kubectl lora …`: kubectl finds it as `kubectl-lora` on the PATH.

Each command is a module of `commands`, which adds its options and runs. Here errors become one line and an exit code.
"""

import io
import os
import sys

from lora_cli.commands import COMMANDS
from lora_cli.commands.completion import ASKED, show_completion
from lora_cli.display import say
from lora_cli.errors import CliError
from lora_cli.parser import Parser, add_cluster

PROGRAM = "kubectl-lora"
_INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""


def main() -> None:
    """Run one command and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that the output has not is no reason to stop
        sys.stdout.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error is one line on stderr."""
    if arguments[:1] == [ASKED]:
        show_completion(build_parser(), arguments[1:])
        return 0
    parser = build_parser()
    chosen, unknown = parser.parse_known_args(arguments)
    if unknown:  # said by the command itself, which may have an exit code of its own for it
        parser.commands[chosen.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = chosen.run(chosen)
        sys.stdout.flush()
    except CliError as error:
        say(f"{PROGRAM}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(prog="kubectl lora", description="Fine-tuning with LoRA.")
    add_cluster(parser, default=None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for module in COMMANDS:
        module.add(commands)
    parser.commands = dict(commands.choices)
    return parser


if __name__ == "__main__":
    main()
