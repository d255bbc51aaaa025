"""`kubectl lora plot NAME -o FILE`: the losses of a run as a picture."""

import argparse
from pathlib import Path
from typing import Any

from lora_cli.cluster.connection import Document
from lora_cli.commands.common import cluster_of, show_json, the_job
from lora_cli.display import say
from lora_cli.errors import CliError, failed
from lora_cli.explain.reading import job_status
from lora_cli.parser import add_cluster, add_storage
from lora_cli.render.figure import Measured, write_figure
from lora_cli.storage.records import metric_lines, run_folder, run_of, series

_ABOUT = (
    "Draws loss, evaluation loss and learning rate from runs/<run>/metrics.jsonl in S3, read with your own AWS "
    "credentials; if it cannot be read, the losses of status.lossCurve."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("plot", help="draw the losses of a run into a file", description=_ABOUT)
    parser.add_argument("name", help="name of the LoRAJob")
    parser.add_argument("-o", "--file", type=Path, required=True, metavar="FILE", help=".png, .svg or .pdf")
    parser.add_argument("--run", type=int, dest="number", metavar="N", help="of another run; default: the newest")
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="form of what is said; default: text"
    )
    add_cluster(parser)
    add_storage(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Draw them."""
    job = the_job(cluster_of(chosen), chosen.name)
    space = job["metadata"]["namespace"]
    number = run_of(job, chosen.number)
    measured, source = _measured(job, number, chosen.endpoint)
    if not measured.loss and not measured.eval_loss:
        raise failed(
            f"run {number} of {chosen.name} has measured nothing yet",
            f"see `kubectl lora why {chosen.name} -n {space}`",
        )
    write_figure(measured, f"{space}/{chosen.name}, run {number}", chosen.file)
    if chosen.output == "json":
        show_json({"file": str(chosen.file), "source": source, "points": len(measured.loss)})
    else:
        print(f"{chosen.file}: {len(measured.loss)} points from {source}")
    return 0


def _measured(job: Document, number: int, endpoint: str | None) -> tuple[Measured, str]:
    """Return the measurements, and where they come from."""
    try:
        folder = run_folder(job, number, endpoint)
        lines = metric_lines(folder)
    except CliError as error:
        status = job_status(job)
        if (status.run or 1) != number:
            raise
        say(f"{error}; drawing status.lossCurve instead")
        return _of_status(job), "status.lossCurve"
    losses = (series(lines, name) for name in ("loss", "evalLoss", "learningRate"))
    return Measured(*losses), f"{folder.uri}/metrics.jsonl"


def _of_status(job: Document) -> Measured:
    curve = job_status(job).loss_curve
    return Measured(
        [(float(each.step), each.loss) for each in curve if each.loss is not None],
        [(float(each.step), each.eval_loss) for each in curve if each.eval_loss is not None],
    )
