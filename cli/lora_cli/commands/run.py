"""`kubectl lora run`: the LoRAJob of a file on this machine. It asks no cluster."""

import argparse
from pathlib import Path
from typing import Any

from lora_api.exit_codes import ExitCode
from lora_cli.job import read_job
from lora_cli.local import default_work_folder, run_locally

_ABOUT = (
    "Runs the very LoRAJob of the cluster on this machine: preflight, training and publication. "
    "S3 credentials are found as the AWS tools find them."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run", help="run a LoRAJob on this machine", description=_ABOUT, usage_code=ExitCode.INVALID_REQUEST
    )
    parser.add_argument("-f", "--filename", type=Path, required=True, help="YAML file with one LoRAJob")
    parser.add_argument(
        "-n", "--namespace", default=argparse.SUPPRESS, help="namespace, which is a part of the output's path"
    )
    parser.add_argument("--output", metavar="URI", help="replaces spec.output.uri: s3://bucket/prefix or file:///path")
    parser.add_argument("--cpu", action="store_true", help="replaces spec.resources.gpus by 0")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for base models and temporary files")
    parser.add_argument("--output-format", choices=("text", "json"), default="text", help="form of the result")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the job to its end, and return the exit code of the trainer."""
    job = read_job(chosen.filename, chosen.namespace, chosen.output, cpu=chosen.cpu)
    return run_locally(job, chosen.work or default_work_folder(), as_json=chosen.output_format == "json")
