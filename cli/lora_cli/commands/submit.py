"""`kubectl lora submit -f FILE`: checks LoRAJobs here, field by field, then applies them server-side."""

import argparse
from pathlib import Path
from typing import Any

from lora_cli.cluster.connection import LORAJOBS, Cluster, Document, RefusedError
from lora_cli.commands import watch
from lora_cli.commands.common import cluster_of, show_json
from lora_cli.errors import failed, refusals_as_failures, wrong_usage
from lora_cli.job import Described, read_jobs
from lora_cli.parser import add_cluster, add_file, add_output

_ABOUT = "Applies the LoRAJobs of a file. Nothing is applied when one of them has a wrong field."


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("submit", help="check and apply LoRAJobs", description=_ABOUT)
    add_file(parser)
    parser.add_argument("--watch", action="store_true", help="follow the job to its end; for a file with one LoRAJob")
    add_cluster(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Check, apply, and follow if asked."""
    cluster = cluster_of(chosen)
    with refusals_as_failures():
        jobs = read_jobs(Path(chosen.filename), cluster.namespace)
    if chosen.watch and len(jobs) != 1:
        raise wrong_usage(f"{chosen.filename} holds {len(jobs)} LoRAJobs", "--watch follows one")
    check_namespaces(jobs, chosen.namespace)
    before = [cluster.get(LORAJOBS, each.job.name, each.job.namespace) for each in jobs]
    after = [apply(cluster, each) for each in jobs]
    if chosen.output == "json" and not chosen.watch:
        show_json(after)
    for old, new in zip(before, after, strict=True):
        if chosen.output == "text":
            print(f"lorajob/{new['metadata']['name']} {_change(old, new)} in namespace {new['metadata']['namespace']}")
    if not chosen.watch:
        return 0
    (job,) = after
    there = Cluster(cluster.api, job["metadata"]["namespace"])
    name, generation = job["metadata"]["name"], job["metadata"]["generation"]
    return watch.follow(there, name, as_json=chosen.output == "json", generation=generation)


def check_namespaces(jobs: list[Described], asked: str | None) -> None:
    """Refuse a file that names another namespace than -n, as kubectl does: neither may silently win."""
    for each in jobs:
        if asked and each.job.namespace != asked:
            name = each.job.name
            raise wrong_usage(
                f"{name} names namespace {each.job.namespace}, and -n {asked}", "leave out one of the two"
            )


def apply(cluster: Cluster, described: Described, *, dry_run: bool = False) -> Document:
    """Apply one LoRAJob. Raises `CliError` with each field that the API server refuses."""
    document = {key: value for key, value in described.document.items() if key != "status"}
    document["metadata"] = document["metadata"] | {"namespace": described.job.namespace}
    try:
        return cluster.apply(LORAJOBS, document, dry_run=dry_run)
    except RefusedError as error:
        what = "; ".join(error.causes) or str(error)
        raise failed(f"the API server refuses lorajob/{described.job.name}: {what}") from None


def _change(old: Document | None, new: Document) -> str:
    if old is None:
        return "created"
    return "unchanged" if old["metadata"]["generation"] == new["metadata"]["generation"] else "changed"
