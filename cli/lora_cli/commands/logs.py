"""`kubectl lora logs NAME`: the logs of a run, from its pods, or from S3 when the pods are gone."""

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from lora_api.conditions import find_condition
from lora_api.names import JOB_LABEL, RUN_LABEL, STAGE_LABEL
from lora_api.reasons import ConditionType, Reason
from lora_cli.cluster.connection import PODS, Cluster, Document
from lora_cli.cluster.logs import follow_pods, pod_lines
from lora_cli.commands.common import cluster_of, the_job
from lora_cli.display import say
from lora_cli.errors import failed
from lora_cli.explain.reading import job_status
from lora_cli.parser import add_cluster, add_storage
from lora_cli.render.log_line import parsed, pretty, printable
from lora_cli.storage.records import log_lines, run_folder, run_of
from lora_cli.trainer import SERVED

_STAGES = ("preflight", "train")
_POLL_SECONDS = 2.0
_ABOUT = (
    "Shows the logs of a run: of its pods, and when they are gone, of runs/<run>/log.jsonl in S3, read with your own "
    "AWS credentials."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "logs", help="show the logs of a run, also after its pods are gone", description=_ABOUT
    )
    parser.add_argument("name", help="name of the LoRAJob")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends, from pod to pod")
    parser.add_argument("--stage", choices=_STAGES, help="of one stage only")
    parser.add_argument("--run", type=int, dest="number", metavar="N", help="of another run; default: the newest")
    parser.add_argument("--raw", action="store_true", help="the lines as they are: JSON")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="json is --raw")
    add_cluster(parser)
    add_storage(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Show the lines."""
    cluster = cluster_of(chosen)
    job = the_job(cluster, chosen.name)
    number = run_of(job, chosen.number)
    form = printable if chosen.raw or chosen.output == "json" else pretty
    for line in _lines(cluster, job, number, chosen):
        print(form(line), flush=chosen.follow)
    sys.stdout.flush()
    return 0


def _lines(cluster: Cluster, job: Document, number: int, chosen: argparse.Namespace) -> Iterator[str]:
    selector = f"{JOB_LABEL}={chosen.name},{RUN_LABEL}={number}"
    selector += f",{STAGE_LABEL}={chosen.stage}" if chosen.stage else f",{STAGE_LABEL} in ({','.join(_STAGES)})"
    if chosen.follow and _goes_on(job, number):
        yield from follow_pods(
            lambda: cluster.list(PODS, selector=selector),
            cluster.log,
            lambda: _goes_on(the_job(cluster, chosen.name), number),
            lambda: time.sleep(_POLL_SECONDS),
            say,
        )
        _check_stage(the_job(cluster, chosen.name), number, chosen.stage)
        return
    _check_stage(job, number, chosen.stage)
    pods = cluster.list(PODS, selector=selector)
    if pods:
        yield from pod_lines(pods, cluster.log, say)
    else:
        yield from _stored(job, number, chosen)


def _goes_on(job: Document, number: int) -> bool:
    """Return whether the run may have another pod."""
    status = job_status(job)
    return (status.run or 1) == number and status.completion_time is None


def _check_stage(job: Document, number: int, stage: str | None) -> None:
    """Raise `CliError` for a stage that the newest run surely has not had. Of earlier ones nothing is known here."""
    status = job_status(job)
    if (status.run or 1) != number:
        return
    passed = find_condition(status.conditions, ConditionType.PREFLIGHT_PASSED)
    if passed is None:
        return
    if stage == "train" and passed.status != "True" and not _goes_on(job, number):
        raise failed(f"run {number} ended in the preflight and has no log of stage train", "see --stage preflight")
    if stage == "preflight" and passed.reason == Reason.PREFLIGHT_SKIPPED:
        raise failed(f"run {number} had no preflight: spec.preflight.enabled is false", "see --stage train")


def _stored(job: Document, number: int, chosen: argparse.Namespace) -> Iterator[str]:
    folder = run_folder(job, number, chosen.endpoint)
    say(f"the pods of run {number} are gone, or have not come yet; reading {folder.uri}/log.jsonl")
    lines = list(of_stage(log_lines(folder), chosen.stage))
    if chosen.stage and not lines:
        raise failed(f"run {number} has no log of stage {chosen.stage}", "leave out --stage to see all of it")
    yield from lines


def of_stage(lines: list[str], stage: str | None) -> Iterator[str]:
    """Yield the lines of a stage: the line `started` of each process names its command, the one before is its first."""
    current = None
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        own = _command_started(line)
        current = own or (_command_started(after) if _is_first(line) else None) or current
        if stage in (None, current):
            yield line


def _command_started(line: str) -> str | None:
    event = parsed(line) or {}
    command = event.get("command")
    return command if event.get("message") == "started" and command in _STAGES else None


def _is_first(line: str) -> bool:
    return (parsed(line) or {}).get("message") == SERVED
