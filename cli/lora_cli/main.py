"""`kubectl lora …`: kubectl finds it as `kubectl-lora` on the PATH."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from lora_api.exit_codes import ExitCode
from lora_cli.display import say
from lora_cli.errors import CliError
from lora_cli.job import read_job
from lora_cli.local import default_work_folder, run_locally

PROGRAM = "kubectl-lora"


def main() -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error is one line on stderr."""
    chosen = _parser().parse_args(arguments)
    try:
        job = read_job(chosen.filename, chosen.namespace, chosen.output, cpu=chosen.cpu)
        return run_locally(job, chosen.work or default_work_folder(), as_json=chosen.output_format == "json")
    except CliError as error:
        say(f"{PROGRAM}: {error}")
        return error.exit_code


class _Parser(argparse.ArgumentParser):
    """A parser whose refusal is an invalid request, and not argparse's own exit code."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used, and exit with 64."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.INVALID_REQUEST, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kubectl lora", description="Fine-tuning with LoRA.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    local = commands.add_parser("run", help="run a LoRAJob on this machine", description=_RUN)
    local.add_argument("-f", "--filename", type=Path, required=True, help="YAML file with one LoRAJob")
    local.add_argument("-n", "--namespace", help="namespace, which is a part of the output's path")
    local.add_argument("--output", metavar="URI", help="replaces spec.output.uri: s3://bucket/prefix or file:///path")
    local.add_argument("--cpu", action="store_true", help="replaces spec.resources.gpus by 0")
    local.add_argument("--work", type=Path, metavar="DIR", help="folder for base models and temporary files")
    local.add_argument("--output-format", choices=("text", "json"), default="text", help="form of the result")
    return parser


_RUN = (
    "Runs the very LoRAJob of the cluster on this machine: preflight, training and publication. "
    "S3 credentials are found as the AWS tools find them."
)

if __name__ == "__main__":
    main()
