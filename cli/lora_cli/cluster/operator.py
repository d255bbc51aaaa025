"""Finds the operator of a cluster and reads its settings, as far as the caller may. No Secret is read."""

from dataclasses import dataclass, replace

from lora_cli.cluster.connection import Cluster, ForbiddenError, Resource
from lora_cli.deployment import SELECTOR, OperatorDeployment, is_operator, read_deployment
from lora_cli.errors import CliError

_DEPLOYMENTS = Resource("Deployment", "/apis/apps/v1", "deployments")
_CONFIG_MAPS = Resource("ConfigMap", "/api/v1", "configmaps")


@dataclass(frozen=True)
class OperatorSettings:
    """What is known of an operator."""

    source: str = ""
    """Where the settings come from, for people; empty if no operator was found."""
    trainer_image: str | None = None
    """Its image for jobs that name none; None if not known."""
    config: str | None = None
    """Text of its configuration file; empty if it has none, None if not known."""
    config_source: str = ""
    """What holds that text; empty if there is no such file."""
    unknown: str = ""
    """Why the configuration is not known."""


def find_operator(cluster: Cluster, namespace: str, served: str) -> OperatorSettings:
    """Return the settings of the operator in a namespace that looks after the LoRAJobs of another, `served`."""
    there = Cluster(cluster.api, namespace)
    try:
        controllers = there.list(_DEPLOYMENTS, selector=SELECTOR)
    except ForbiddenError:
        return OperatorSettings(unknown=f"you may not list Deployments in namespace {namespace}")
    except CliError as error:
        return OperatorSettings(unknown=str(error))
    found = [read_deployment(each) for each in controllers if is_operator(each)]
    serving = [each for each in found if each.serves(served)]
    if len(serving) != 1:
        return OperatorSettings(unknown=_which(found, serving, namespace, served))
    return _with_config(there, serving[0])


def _which(found: list[OperatorDeployment], serving: list[OperatorDeployment], namespace: str, served: str) -> str:
    """Say why there is not one operator."""
    elsewhere = "name its namespace with --operator-namespace"
    if not found:
        return f"no operator runs in namespace {namespace}; {elsewhere}"
    if not serving:
        names = ", ".join(each.name for each in found)
        return f"Deployment {namespace}/{names} does not serve namespace {served}; if another does, {elsewhere}"
    return f"several operators serve it: {', '.join(each.name for each in serving)} in namespace {namespace}"


def _with_config(there: Cluster, operator: OperatorDeployment) -> OperatorSettings:
    known = OperatorSettings(f"Deployment {operator.namespace}/{operator.name}", operator.trainer_image)
    if operator.fault:
        return replace(known, unknown=f"{operator.fault}: {known.source}")
    if operator.config is None:
        return replace(known, config="")
    place, source = operator.config, f"ConfigMap {operator.namespace}/{operator.config.config_map}"
    try:
        document = there.get(_CONFIG_MAPS, place.config_map)
    except ForbiddenError:
        return replace(known, unknown=f"you may not read {source}")
    except CliError as error:
        return replace(known, unknown=str(error))
    text = ((document or {}).get("data") or {}).get(place.key)
    if text is None:
        return replace(known, unknown=f"{source} has no {place.key}" if document else f"there is no {source}")
    return replace(known, config=text, config_source=source)
