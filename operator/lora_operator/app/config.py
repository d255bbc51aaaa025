"""The operator's flags, environment variables and configuration file, read once at the start into typed values.

Whatever is missing or wrong ends the process with exit code 2 and one line that says what to correct: an operator that
guessed at a policy would be worse than none.
"""

import argparse
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn, cast

from lora_operator.app.config_file import ConfigFileError, read_policy
from lora_operator.cluster.permissions import LEASE_NAME
from lora_operator.domain.policy import Policy

ProgressRoute = Literal["auto", "direct", "proxy"]

OWN_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the name of its namespace."""
WEBHOOK_SERVICE = "lora-operator-webhook"
_CLUSTER_VARIABLE = "KUBERNETES_SERVICE_HOST"
"""Set in every pod, and nowhere else."""


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """How the pod webhook is served."""

    agent_image: str
    """Image of the agent beside an inference engine."""
    port: int
    service: str
    """Name of the Service by which the API server calls it, in the namespace of the Lease."""
    certificates: Path | None = None
    """Folder with tls.crt and tls.key, if somebody else makes them."""


@dataclass(frozen=True, slots=True)
class Config:
    """How the process runs."""

    trainer_image: str
    namespaces: tuple[str, ...]
    """Namespaces to serve; none means all."""
    log_level: str
    log_format: str
    listen: str
    health_port: int
    metrics_port: int
    workers: int
    resync_seconds: float
    progress_route: ProgressRoute
    leader_election: bool
    """Whether one of several replicas leads, by a Lease."""
    lease_namespace: str
    lease_name: str
    identity: str
    """Name of this process in the Lease; no two are the same."""
    otlp_endpoint: str | None = None
    """Where traces go; None makes none."""
    policy: Policy = field(default_factory=Policy)
    webhook: WebhookConfig | None = None
    """How the pod webhook is served; None does not serve it."""


def read_config(
    arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    own_namespace_file: Path = OWN_NAMESPACE_FILE,
) -> Config:
    """Read flags; each falls back to an environment variable. Exits with a message when one is missing or wrong."""
    parser = _parser(environment)
    parsed = parser.parse_args(arguments)
    if not parsed.trainer_image:
        _refuse(parser, "no trainer image: set LORA_TRAINER_IMAGE or --trainer-image")
    namespaces = parsed.namespace or _split(environment.get("LORA_NAMESPACES", ""))
    return Config(
        trainer_image=parsed.trainer_image,
        namespaces=tuple(dict.fromkeys(namespaces)),
        log_level=parsed.log_level.upper(),
        log_format=parsed.log_format,
        listen=parsed.listen,
        health_port=parsed.health_port,
        metrics_port=parsed.metrics_port,
        workers=parsed.workers,
        resync_seconds=parsed.resync_seconds,
        progress_route=_route(parsed.progress, environment),
        leader_election=_elects(parser, parsed.leader_election, environment),
        lease_namespace=environment.get("LORA_LEASE_NAMESPACE") or _own_namespace(own_namespace_file),
        lease_name=LEASE_NAME,
        identity=_identity(environment),
        otlp_endpoint=parsed.otlp_endpoint or None,
        policy=_policy(parser, parsed.config),
        webhook=_webhook(parser, parsed, environment),
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lora-operator", description="Runs LoRAJobs on a Kubernetes cluster.")

    def option(flag: str, variable: str, default: str, about: str, **extra: object) -> None:
        value = environment.get(variable, default)
        parser.add_argument(flag, default=value, help=f"{about} [{variable}]", **extra)  # type: ignore[arg-type]

    option("--trainer-image", "LORA_TRAINER_IMAGE", "", "image of the trainer pods")
    option("--config", "LORA_CONFIG", "", "file with the policy, YAML or JSON", metavar="FILE")
    option("--log-level", "LORA_LOG_LEVEL", "info", "debug, info, warning or error")
    option("--log-format", "LORA_LOG_FORMAT", "json", "json or text", choices=["json", "text"])
    option("--listen", "LORA_LISTEN", "0.0.0.0", "address of the ports below")  # noqa: S104 - probes come from the node
    option("--health-port", "LORA_HEALTH_PORT", "8080", "port of /healthz", type=int)
    option("--metrics-port", "LORA_METRICS_PORT", "8081", "port of /metrics", type=int)
    option("--webhook", "LORA_WEBHOOK", "auto", "serve the pod webhook", choices=["auto", "on", "off"])
    option("--webhook-port", "LORA_WEBHOOK_PORT", "9443", "port of the pod webhook", type=int)
    option("--webhook-certificates", "LORA_WEBHOOK_CERTIFICATES", "", "folder with tls.crt, tls.key", metavar="DIR")
    option("--agent-image", "LORA_AGENT_IMAGE", "", "image of the agent in inference pods")
    option("--workers", "LORA_WORKERS", "8", "objects that are worked on at the same time", type=int)
    option("--resync-seconds", "LORA_RESYNC_SECONDS", "450", "mean time between two full lists", type=float)
    option("--progress", "LORA_PROGRESS", "auto", "way to trainer pods", choices=["auto", "direct", "proxy"])
    option("--otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "", "where traces go", metavar="URL")
    parser.add_argument(
        "--namespace", action="append", help="serve this namespace only; may be repeated [LORA_NAMESPACES, commas]"
    )
    parser.add_argument(
        "--leader-election",
        action=argparse.BooleanOptionalAction,
        help="lead only while holding the Lease; in a cluster unless told otherwise [LORA_LEADER_ELECTION]",
    )
    return parser


def _refuse(parser: argparse.ArgumentParser, fault: str) -> NoReturn:
    parser.exit(2, f"{parser.prog}: error: {fault}\n")
    raise AssertionError("exit does not return")


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _route(value: str, environment: Mapping[str, str]) -> ProgressRoute:
    """Within a cluster pods can be reached directly, outside only through the API server."""
    if value == "auto":
        return "direct" if _CLUSTER_VARIABLE in environment else "proxy"
    return cast("ProgressRoute", value)


def _elects(parser: argparse.ArgumentParser, flag: bool | None, environment: Mapping[str, str]) -> bool:
    """In a cluster there may be two of us, if only during an update; outside, one person runs one."""
    text = environment.get("LORA_LEADER_ELECTION", "").lower()
    if text not in ("", "true", "false"):
        _refuse(parser, f"LORA_LEADER_ELECTION: {text!r} is neither true nor false")
    if flag is not None:
        return flag
    return text == "true" if text else _CLUSTER_VARIABLE in environment


def _webhook(
    parser: argparse.ArgumentParser, parsed: argparse.Namespace, environment: Mapping[str, str]
) -> WebhookConfig | None:
    """Return how the webhook is served. In a cluster it is, if there is an agent to add; elsewhere nobody calls it."""
    if parsed.webhook == "auto":
        wanted = _CLUSTER_VARIABLE in environment and bool(parsed.agent_image)
    else:
        wanted = parsed.webhook == "on"
    if not wanted:
        return None
    if not parsed.agent_image:
        _refuse(parser, "no agent image: set LORA_AGENT_IMAGE or --agent-image, or --webhook off")
    return WebhookConfig(
        agent_image=parsed.agent_image,
        port=parsed.webhook_port,
        service=environment.get("LORA_WEBHOOK_SERVICE") or WEBHOOK_SERVICE,
        certificates=Path(parsed.webhook_certificates) if parsed.webhook_certificates else None,
    )


def _own_namespace(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return "default"


def _identity(environment: Mapping[str, str]) -> str:
    """Return the pod's name, or the host's and a random end: two processes on one host are two."""
    named = environment.get("LORA_IDENTITY") or environment.get("POD_NAME")
    return named or f"{socket.gethostname()}-{secrets.token_hex(4)}"


def _policy(parser: argparse.ArgumentParser, path: str) -> Policy:
    """Return the policy of the configuration file; without a file nothing is restricted."""
    try:
        return read_policy(Path(path)) if path else Policy()
    except ConfigFileError as error:
        _refuse(parser, str(error))
