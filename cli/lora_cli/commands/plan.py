"""`kubectl lora plan -f FILE`: what a LoRAJob would be, without making it.

Settings with their defaults, the memory estimate of the trainer's own preflight, and the API server's verdict by a dry
run. Nothing is trained and nothing is kept in the cluster; the preflight leaves its report in a temporary folder.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.messages import Resolved
from lora_cli.cluster.connection import Document
from lora_cli.commands.common import cluster_of, show, show_json
from lora_cli.commands.submit import apply, check_namespaces
from lora_cli.errors import FAILED, CliError, refusals_as_failures
from lora_cli.job import Described, read_jobs
from lora_cli.local import default_work_folder, missing_trainer_parts, prepare
from lora_cli.parser import add_cluster, add_file, add_output
from lora_cli.render.plan import preflight_lines, settings_lines
from lora_cli.trainer import run_trainer

_POLICY = "not asked: what an administrator's policy allows is in the operator's own configuration, which stays there"
_ABOUT = (
    "Shows what would run: settings with their defaults, the memory estimate of the trainer's preflight if the trainer "
    "is installed here, and what the API server says to a dry run. Changes nothing."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("plan", help="show what a LoRAJob would be, and change nothing", description=_ABOUT)
    add_file(parser)
    parser.add_argument("--no-preflight", action="store_true", help="no memory estimate: reads neither base nor data")
    parser.add_argument("--offline", action="store_true", help="asks no cluster")
    add_cluster(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Plan each LoRAJob of the file; 1 when one of them would not run."""
    cluster = None if chosen.offline else cluster_of(chosen)
    with refusals_as_failures():
        space = cluster.namespace if cluster else chosen.namespace or "default"
        jobs = read_jobs(Path(chosen.filename), space)
    check_namespaces(jobs, chosen.namespace)
    plans = [_plan(each, cluster, chosen) for each in jobs]
    if chosen.output == "json":
        show_json(plans)
    return FAILED if any(each["refused"] for each in plans) else 0


def _plan(described: Described, cluster: Any, chosen: argparse.Namespace) -> Document:
    """Return the plan of one job, and print its parts as they are known."""
    job, as_json = described.job, chosen.output == "json"

    def say_line(line: str) -> None:
        if not as_json:
            show([line])

    say_line(f"LoRAJob {job.namespace}/{job.name}")
    if not as_json:
        show(settings_lines(job, described.document["spec"]))
    refused = []
    server = "not asked: --offline"
    if cluster is not None:
        try:
            before = apply(cluster, described, dry_run=True)
            server = f"accepted by CRD, CEL and admission, as generation {before['metadata'].get('generation', 1)}"
        except CliError as error:
            server = str(error)
            refused.append(server)
    say_line(f"API server: {server}")
    say_line(f"policy: {_POLICY}")
    found, why = (None, "not asked: --no-preflight") if chosen.no_preflight else _preflight(job)
    if found is None and why.startswith("refused"):
        refused.append(why)
    say_line("preflight:" if found else f"preflight: {why}")
    if not as_json and found:
        show(preflight_lines(found))
    return {
        "namespace": job.namespace,
        "name": job.name,
        "spec": job.spec.wire(),
        "server": server,
        "policy": _POLICY,
        "preflight": found.wire() if found else why,
        "refused": refused,
    }


def _preflight(job: JobFile) -> tuple[Resolved | None, str]:
    """Return what the trainer's preflight finds, or why there is none. It writes to a folder that goes."""
    if missing := missing_trainer_parts():
        return None, (
            f"not run: {', '.join(missing)} are not installed here (pip install 'lora-operator[cli,trainer]'); in the "
            "cluster it runs first, and kubectl get lorajob -o yaml shows status.resolved"
        )
    with tempfile.TemporaryDirectory(prefix="lora-plan-") as folder:
        spec = job.spec.model_copy(
            update={"output": job.spec.output.model_copy(update={"uri": f"file://{folder}/out"})}
        )
        work = prepare(job.model_copy(update={"spec": spec}), default_work_folder(), name="plan")
        ended = run_trainer("preflight", work, lambda _: None)
    if ended.code != ExitCode.DONE:
        words = ended.message
        reached = ended.code in (ExitCode.SERVICE_UNAVAILABLE, ExitCode.NO_PERMISSION, ExitCode.INTERNAL_ERROR)
        start = "not known" if reached else "refused"  # what cannot be reached from here may be reached by the pods
        return None, f"{start}: {words.message}" + (f"; {words.hint}" if words.hint else "")
    return ended.message.preflight, ""
