"""What tests, Makefile and demo need to know about the cluster: ours, or the one that CLUSTER=current names."""

import os
import shlex
from collections.abc import Mapping

from devcluster.images import recorded_images
from devcluster.s3 import read_settings
from devcluster.settings import Paths

# What the user of an own cluster gives. A kubeconfig has a default place, everything else has not.
GIVEN = (
    "LORA_S3_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "LORA_OPERATOR_IMAGE",
    "LORA_AGENT_IMAGE",
    "LORA_TRAINER_IMAGE",
)
OPTIONAL = ("KUBECONFIG", "AWS_REGION", "LORA_ENGINE_IMAGE")


def uses_current_context(environment: Mapping[str, str]) -> bool:
    return environment.get("CLUSTER") == "current"


def own_variables(paths: Paths) -> dict[str, str]:
    """For the cluster of this folder. Images that were never built are left out."""
    images = recorded_images(paths)
    return {
        "KUBECONFIG": str(paths.kubeconfig),
        **read_settings(paths.s3_env),
        **{f"LORA_{name.upper()}_IMAGE": reference for name, reference in images.items()},
        "LORA_DEVCLUSTER_STATE": str(paths.state),
        "LORA_DEVCLUSTER_BIN": str(paths.binaries),
    }


def given_variables(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """For the current context: what the user set, and a line about what is missing (or nothing)."""
    wanted = (*OPTIONAL, *GIVEN)
    variables = {name: environment[name] for name in wanted if environment.get(name)}
    missing = [name for name in GIVEN if name not in variables]
    return variables, f"CLUSTER=current: not set: {' '.join(missing)}" if missing else ""


def shell_exports(variables: Mapping[str, str]) -> str:
    """For `eval`. The folder of kubectl comes first in PATH, as its version fits the cluster."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if "LORA_DEVCLUSTER_BIN" in variables:
        lines.append(f'export PATH={shlex.quote(variables["LORA_DEVCLUSTER_BIN"])}:"$PATH"')
    return "\n".join(lines)


def json_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The same as a dictionary, PATH written out."""
    if "LORA_DEVCLUSTER_BIN" not in variables:
        return dict(variables)
    return {**variables, "PATH": f"{variables['LORA_DEVCLUSTER_BIN']}:{os.environ.get('PATH', '')}"}
