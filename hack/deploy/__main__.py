"""Installs the operator with its chart into the cluster at hand, or upgrades it, and waits until it is ready.

It needs the environment that `hack/devcluster env` prints; the argument is the program of Helm.
"""

import json
import os
import subprocess
import sys

import yaml

from demo.kubectl import kubectl
from demo.objects import restricted_namespace
from deploy.release import CHART, NAME, NAMESPACE, WAIT, cluster_values, upgrade_arguments


def main(program: str) -> int:
    """Install; return Helm's exit code."""
    kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(NAMESPACE)))
    values = yaml.safe_dump(cluster_values(os.environ))
    say(f"helm upgrade --install {NAME} {CHART.relative_to(CHART.parents[1])} --namespace {NAMESPACE}")
    command = [program, *upgrade_arguments(), *WAIT]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        say(done.stderr.strip())
    else:
        say(f"the operator is ready, revision {revision(program)} of the release")
    return done.returncode


def revision(program: str) -> int:
    """Return the number of the release's newest revision."""
    text = subprocess.run(
        [program, "status", NAME, "--namespace", NAMESPACE, "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return int(json.loads(text)["version"])


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"deploy: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
