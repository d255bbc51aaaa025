"""The operator of the cluster at hand as a Helm release: which values the chart gets, and the command that takes them.

Used by `make deploy` and by the end-to-end tests of the chart, so that these test what is installed. Pure.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = "lora-operator"
NAMESPACE: Final = "lora-system"
CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "lora-operator"
WAIT: Final = ("--wait", "--timeout", "180s")
_TAKE_OVER: Final = ("--take-ownership", "--force-conflicts")
"""What kubectl has installed becomes the release's."""
_REGISTRY: Final = re.compile(r"localhost|.*[.:].*")
"""The part of a reference before the first slash, when it is a host and no part of a repository's name."""


def cluster_values(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the chart's values: the images that the environment names, and the dashboard."""
    return {
        "image": image_values(environment["LORA_OPERATOR_IMAGE"]),
        "trainer": {"image": image_values(environment["LORA_TRAINER_IMAGE"])},
        "agent": {"image": image_values(environment["LORA_AGENT_IMAGE"])},
        "dashboard": {"enabled": True},
    }


def image_values(reference: str) -> dict[str, str]:
    """Return a reference of an image, such as `registry.example:5000/team/app:1.2@sha256:…`, as the chart's values."""
    path, _, digest = reference.partition("@")
    tag = ""
    if ":" in path.rpartition("/")[2]:
        path, _, tag = path.rpartition(":")
    first, slash, rest = path.partition("/")
    registry, repository = (first, rest) if slash and _REGISTRY.fullmatch(first) else ("", path)
    return {"registry": registry, "repository": repository, "tag": tag, "digest": digest}


def upgrade_arguments(chart: Path = CHART, *, name: str = NAME, namespace: str = NAMESPACE) -> tuple[str, ...]:
    """Return the arguments of Helm that install a release or upgrade it, with values from stdin."""
    return ("upgrade", "--install", name, str(chart), "--namespace", namespace, "--values", "-", *_TAKE_OVER)


def way_out(status: str, program: str) -> str:
    """Return what to do after a failure: of a release that Helm holds for unfinished nothing but one command helps.

    `status` is what Helm says of the release's newest revision, empty where there is none.
    """
    if not status.startswith("pending-"):
        return "mend what the lines above name, then run it again: no job and no training is touched"
    # Back to the revision before; of a first installation there is none, and the CRDs and all jobs outlive its end.
    command = "uninstall" if status == "pending-install" else "rollback"
    return (
        f"a Helm that was killed left the release as {status}; if no other is at work now, run this, then try again: "
        f"{program} {command} {NAME} --namespace {NAMESPACE}"
    )
