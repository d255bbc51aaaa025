"""The commands. Turns arguments into calls and errors into one line; does nothing else."""

import argparse
import json
import os

from devcluster import cluster
from devcluster.environment import (
    given_variables,
    json_variables,
    own_variables,
    shell_exports,
    uses_current_context,
)
from devcluster.images import ALL_IMAGES, IMAGES, build_images, remove_unused
from devcluster.processes import log_file
from devcluster.settings import Paths, paths
from devcluster.shell import DevclusterError, say
from devcluster.tools import TOOLS, ensure_tool

BASE_ONLY = "base"  # makes what both images stand on, and nothing more


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 failed or, for `status`, not everything runs."""
    options = _parser().parse_args(arguments)
    try:
        if uses_current_context(os.environ) and options.command not in TOOLS:  # which are no part of any cluster
            return _with_current_context(options)
        return _with_own_cluster(options, paths())
    except DevclusterError as error:
        say(f"devcluster: {error}")
        return 1
    except KeyboardInterrupt:
        say("devcluster: interrupted; run the same command again to go on")
        return 130


def _with_current_context(options: argparse.Namespace) -> int:
    if options.command != "env":
        say(f"CLUSTER=current: `{options.command}` leaves your cluster as it is")
        return 0
    variables, missing = given_variables(os.environ)
    print(json.dumps(variables) if options.json else shell_exports(variables))
    if missing:
        say(missing)
    return 1 if missing else 0


def _with_own_cluster(options: argparse.Namespace, where: Paths) -> int:
    match options.command:
        case "up" if options.control_plane:
            cluster.up_control_plane(where)
        case "up":
            cluster.up(where)
        case "s3":
            cluster.up_s3(where)
        case "down":
            cluster.down(where, purge=options.purge)
        case "status":
            return 0 if cluster.status(where) else 1
        case "images":
            with cluster.locked(where, "images"):
                _images(options, where)
        case "env":
            variables = own_variables(where)
            print(json.dumps(json_variables(variables)) if options.json else shell_exports(variables))
        case name if name in TOOLS:
            print(ensure_tool(TOOLS[name], where))
        case "logs":
            _show_logs(options, where)
    return 0


def _images(options: argparse.Namespace, where: Paths) -> None:
    unknown = set(options.names) - {*ALL_IMAGES, BASE_ONLY}
    if unknown:
        raise DevclusterError(
            f"no image {', '.join(sorted(unknown))}: there are {', '.join(ALL_IMAGES)} and {BASE_ONLY}"
        )
    build_images(where, tuple(options.names) or IMAGES)
    if options.prune:
        remove_unused(where)


def _show_logs(options: argparse.Namespace, where: Paths) -> None:
    if not options.name:
        for log in sorted(where.logs.glob("*.log")):
            print(log)
        return
    log = log_file(where, options.name)
    if not log.exists():
        raise DevclusterError(f"no log {log}")
    os.execvp("tail", ["tail", "-n", "200", *(["-F"] if options.follow else []), str(log)])  # noqa: S606


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devcluster", description="A real Kubernetes cluster of one node.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start what does not run")
    up.add_argument("--control-plane", action="store_true", help="API server and S3 only, without root")
    down = commands.add_parser("down", help="stop everything")
    down.add_argument("--purge", action="store_true", help="remove the state folder too")
    commands.add_parser("status", help="what runs")
    images = commands.add_parser("images", help="build the images and give them to the node")
    images.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="of operator, agent, trainer, engine, base; the first three, if none is named",
    )
    images.add_argument("--prune", action="store_true", help="then free what earlier builds left")
    commands.add_parser("s3", help="start the S3 server alone")
    environment = commands.add_parser("env", help="variables of the cluster, for eval")
    environment.add_argument("--json", action="store_true", help="as one JSON object")
    for tool in TOOLS.values():
        commands.add_parser(tool.name, help=f"build {tool.name} {tool.what_for}, and print where it is")
    logs = commands.add_parser("logs", help="list the logs, or show one")
    logs.add_argument("name", nargs="?")
    logs.add_argument("-f", "--follow", action="store_true")
    return parser
