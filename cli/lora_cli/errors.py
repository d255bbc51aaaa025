"""The one error that ends a command on purpose, and the exit codes of the commands beside those of a trainer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lora_api.exit_codes import ExitCode

FAILED: Final = 1
"""What was asked about has failed, or could not be done."""
USAGE: Final = 2
"""The command line is wrong. `run` says 64, as a trainer does."""


class CliError(Exception):
    """What went wrong, in one line, with the exit code of the whole command."""

    def __init__(self, exit_code: int, message: str, hint: str = "") -> None:
        super().__init__(" ".join((f"{message}; {hint}" if hint else message).split()))
        self.exit_code = exit_code


def invalid(message: str, hint: str = "") -> CliError:
    """Return the error of a command line or a file that asks for something impossible (64)."""
    return CliError(ExitCode.INVALID_REQUEST, message, hint)


def failed(message: str, hint: str = "") -> CliError:
    """Return the error of something that failed (1)."""
    return CliError(FAILED, message, hint)


def wrong_usage(message: str, hint: str = "") -> CliError:
    """Return the error of a command line that cannot be followed (2)."""
    return CliError(USAGE, message, hint)


@contextmanager
def refusals_as_failures() -> Iterator[None]:
    """Turn the 64 of a file that was refused into 1: only `run` speaks with the codes of a trainer."""
    try:
        yield
    except CliError as error:
        raise CliError(FAILED if error.exit_code == ExitCode.INVALID_REQUEST else error.exit_code, str(error)) from None
