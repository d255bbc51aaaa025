"""The one error that ends a command on purpose."""

from lora_api.exit_codes import ExitCode


class CliError(Exception):
    """What went wrong, in one line, with the exit code of the whole command."""

    def __init__(self, exit_code: int, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.exit_code = exit_code


def invalid(message: str, hint: str = "") -> CliError:
    """Return the error of a command line or a file that asks for something impossible (64)."""
    return CliError(ExitCode.INVALID_REQUEST, message, hint)
