"""The flags of the dashboard, each with an environment variable, read once at the start."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from lora_operator.dashboard.query import QueryError, check_name

Auth = Literal["serviceaccount", "passthrough"]
_WAYS = get_args(Auth)


@dataclass(frozen=True, slots=True)
class Config:
    """How the process runs."""

    auth: Auth
    """Whose rights decide what is shown: those of the dashboard, or those of the viewer."""
    namespaces: tuple[str, ...]
    """Namespaces to show; none means all."""
    hosts: tuple[str, ...]
    """Names of the page outside the cluster."""
    listen: str
    port: int
    health_listen: str
    health_port: int
    log_level: str
    log_format: str


def read_config(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Config:
    """Read flags; each falls back to an environment variable. Exits with 2 and one line when one is wrong."""
    parser = _parser(environment)
    parsed = parser.parse_args(arguments)
    if parsed.auth not in _WAYS:  # argparse does not look at a default, which may come from the environment
        parser.exit(2, f"{parser.prog}: error: LORA_DASHBOARD_AUTH: {parsed.auth!r} is none of {', '.join(_WAYS)}\n")
    namespaces = parsed.namespace or _split(environment.get("LORA_NAMESPACES", ""))
    try:
        for each in namespaces:
            check_name(each, "--namespace")
    except QueryError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    return Config(
        auth=cast("Auth", parsed.auth),
        namespaces=tuple(dict.fromkeys(namespaces)),
        hosts=tuple(each.lower() for each in parsed.host or _split(environment.get("LORA_DASHBOARD_HOSTS", ""))),
        listen=parsed.listen,
        port=parsed.port,
        health_listen=parsed.health_listen or parsed.listen,
        health_port=parsed.health_port,
        log_level=parsed.log_level.upper(),
        log_format=parsed.log_format,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lora-dashboard", description="Shows LoRAJobs and LoRAAdapters, read-only.")

    def option(flag: str, variable: str, default: str, about: str, **extra: object) -> None:
        value = environment.get(variable, default)
        parser.add_argument(flag, default=value, help=f"{about} [{variable}]", **extra)  # type: ignore[arg-type]

    option("--auth", "LORA_DASHBOARD_AUTH", "serviceaccount", "whose rights decide what is shown", choices=_WAYS)
    option("--listen", "LORA_LISTEN", "0.0.0.0", "address of the page")  # noqa: S104 - a Service leads to it
    option("--port", "LORA_DASHBOARD_PORT", "8080", "port of the page", type=int)
    option("--health-listen", "LORA_HEALTH_LISTEN", "", "address of the health port; that of the page if not given")
    option("--health-port", "LORA_HEALTH_PORT", "8081", "port of /healthz and /readyz", type=int)
    option("--log-level", "LORA_LOG_LEVEL", "info", "debug, info, warning or error")
    option("--log-format", "LORA_LOG_FORMAT", "json", "json or text", choices=["json", "text"])
    parser.add_argument("--namespace", action="append", help="show this one only; may be repeated [LORA_NAMESPACES]")
    parser.add_argument(
        "--host", action="append", help="name of the page outside the cluster; may be repeated [LORA_DASHBOARD_HOSTS]"
    )
    return parser


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
