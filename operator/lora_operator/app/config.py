"""The operator's flags and environment variables, read once at the start into typed values."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

ProgressRoute = Literal["auto", "direct", "proxy"]


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


def read_config(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Config:
    """Read flags; each falls back to an environment variable. Exits with a message when one is missing or wrong."""
    parser = _parser(environment)
    parsed = parser.parse_args(arguments)
    if not parsed.trainer_image:
        parser.error("no trainer image: set LORA_TRAINER_IMAGE or --trainer-image")
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
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lora-operator", description="Runs LoRAJobs on a Kubernetes cluster.")

    def option(flag: str, variable: str, default: str, about: str, **extra: object) -> None:
        value = environment.get(variable, default)
        parser.add_argument(flag, default=value, help=f"{about} [{variable}]", **extra)  # type: ignore[arg-type]

    option("--trainer-image", "LORA_TRAINER_IMAGE", "", "image of the trainer pods")
    option("--log-level", "LORA_LOG_LEVEL", "info", "debug, info, warning or error")
    option("--log-format", "LORA_LOG_FORMAT", "json", "json or text", choices=["json", "text"])
    option("--listen", "LORA_LISTEN", "0.0.0.0", "address of the two ports below")  # noqa: S104 - probes come from the node
    option("--health-port", "LORA_HEALTH_PORT", "8080", "port of /healthz", type=int)
    option("--metrics-port", "LORA_METRICS_PORT", "8081", "port of /metrics", type=int)
    option("--workers", "LORA_WORKERS", "8", "objects that are worked on at the same time", type=int)
    option("--resync-seconds", "LORA_RESYNC_SECONDS", "450", "mean time between two full lists", type=float)
    option("--progress", "LORA_PROGRESS", "auto", "way to trainer pods", choices=["auto", "direct", "proxy"])
    parser.add_argument(
        "--namespace", action="append", help="serve this namespace only; may be repeated [LORA_NAMESPACES, commas]"
    )
    return parser


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _route(value: str, environment: Mapping[str, str]) -> ProgressRoute:
    """Within a cluster pods can be reached directly, outside only through the API server."""
    if value == "auto":
        return "direct" if "KUBERNETES_SERVICE_HOST" in environment else "proxy"
    return cast("ProgressRoute", value)
