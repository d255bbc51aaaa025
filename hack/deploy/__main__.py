"""Installs the operator with its chart into the cluster at hand, or upgrades it, and waits until it is ready.

It needs the environment that `hack/devcluster env` prints; the argument is the program of Helm.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import yaml

from demo.kubectl import kubectl, run
from demo.objects import restricted_namespace
from deploy.release import CHART, NAME, NAMESPACE, WAIT, cluster_values, upgrade_arguments, way_out

_LOOKS: Final = (
    ("get", "pods"),
    ("get", "events", "--field-selector=type=Warning", "--sort-by=.metadata.creationTimestamp"),
    ("logs", "--selector=app.kubernetes.io/name=lora-operator", "--prefix", "--tail=20"),
)
"""What tells why an operator or a dashboard is not ready."""
_LAST_LINES: Final = 40
_INTERRUPTED: Final = 130


def main(program: str) -> int:
    """Install; return the exit code."""
    try:
        kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(NAMESPACE)))
        return install(program)
    except (RuntimeError, OSError) as error:  # what kubectl says, or that a program is not there
        say(str(error))
        return 1


def install(program: str) -> int:
    """Let Helm install the chart; return its exit code, or that of an interrupt."""
    values = yaml.safe_dump(cluster_values(os.environ))
    say(f"helm upgrade --install {NAME} {CHART.relative_to(CHART.parents[1])} --namespace {NAMESPACE}")
    command = [program, *upgrade_arguments(), *WAIT]
    with ended_by_itself() as interrupts:
        done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if interrupts and done.returncode:
        say("interrupted; run it again to go on")
        return _INTERRUPTED
    if done.returncode:
        explain(done.stderr.strip(), program)
    else:
        say(f"the operator is ready, revision {status(program)['version']} of the release")
    return done.returncode


@contextmanager
def ended_by_itself() -> Iterator[list[int]]:
    """Leave an interrupt to the child, and yield those that came.

    Ctrl-C reaches Helm as well, which then writes down that the release has failed. To be killed before that leaves a
    release that takes no upgrade.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def explain(error: str, program: str) -> None:
    """Print what Helm said, what the pods say, and what to do."""
    say(error)
    state = str(status(program).get("info", {}).get("status", ""))
    if not state.startswith("pending-"):
        for each in _LOOKS:
            show(*each)
    place = os.environ.get("KUBECONFIG")  # which the shell of who reads this may not have
    say(way_out(state, f"KUBECONFIG={shlex.quote(place)} {program}" if place else program))


def show(*arguments: str) -> None:
    """Print what kubectl says of the operator's namespace, if it says anything."""
    done = run("-n", NAMESPACE, *arguments)
    lines = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
    if lines:
        say("\n  ".join([f"kubectl -n {NAMESPACE} {' '.join(arguments)}", *lines]))


def status(program: str) -> dict[str, Any]:
    """Return the release's newest revision as Helm knows it, empty where there is none."""
    command = [program, "status", NAME, "--namespace", NAMESPACE, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"deploy: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
