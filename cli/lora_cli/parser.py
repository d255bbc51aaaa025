"""The parts of command lines that several commands share: how to reach the cluster and S3, and the form of the output.

Options of the cluster may stand before or behind the command, as with kubectl.
"""

import argparse
import sys
from typing import Any, NoReturn

from lora_cli.errors import USAGE


class Parser(argparse.ArgumentParser):
    """A parser that says how the command is used, and ends with its exit code for wrong usage."""

    def __init__(self, *arguments: Any, usage_code: int = USAGE, **options: Any) -> None:
        self.actions: list[argparse.Action] = []
        """All that was added, for the completion in a shell."""
        self.commands: dict[str, Parser] = {}
        super().__init__(*arguments, **{"allow_abbrev": False, **options})
        self._usage_code = usage_code

    def add_argument(self, *arguments: Any, **options: Any) -> argparse.Action:
        """Add an argument, and remember it."""
        self.actions.append(super().add_argument(*arguments, **options))
        return self.actions[-1]

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(self._usage_code, f"{self.prog}: {message}\n")


def add_cluster(parser: argparse.ArgumentParser, *, default: Any = argparse.SUPPRESS) -> None:
    """Add the options that say which cluster and namespace. Behind the command they must not undo those before it."""
    parser.add_argument("-n", "--namespace", default=default, help="namespace; default: that of the context")
    parser.add_argument("--context", default=default, help="context of the kubeconfig; default: the current one")
    parser.add_argument("--kubeconfig", metavar="FILE", default=default, help="default: $KUBECONFIG, ~/.kube/config")


def add_all_namespaces(parser: argparse.ArgumentParser) -> None:
    """Add -A."""
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")


def add_output(parser: argparse.ArgumentParser, *, short: bool = True) -> None:
    """Add the form of the output. Where -o names a file there is only the long form."""
    names = ["-o", "--output"] if short else ["--output"]
    parser.add_argument(*names, choices=("text", "json"), default="text", help="form of the output; default: text")


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add how S3 is reached from here, where that differs from how the pods reach it."""
    parser.add_argument("--endpoint", metavar="URL", help="URL of the S3 server; default: that of the object")


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the file with LoRAJobs."""
    parser.add_argument("-f", "--filename", required=True, metavar="FILE", help="YAML with LoRAJobs; - is stdin")
