"""What the webhook told this agent, read once from the environment. Nothing of it is logged: a key may be in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_api import names

ADAPTERS_VARIABLE = "LORA_AGENT_ADAPTERS"
DESIRED_VARIABLE = "LORA_AGENT_DESIRED"
SECRETS_VARIABLE = "LORA_AGENT_SECRETS"
PORT_VARIABLE = "LORA_AGENT_PORT"
LISTEN_VARIABLE = "LORA_AGENT_LISTEN"
"""These five move the agent's folders, port and address, for whoever runs one outside a pod."""

_Text = Callable[[str], str | None]


class SettingsError(Exception):
    """A variable that is missing or wrong: one line with name and fix."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that differs between pods."""

    engine: str
    engine_url: str
    engine_key: str | None = field(default=None, repr=False)
    max_rank: int | None = None
    base_model: str | None = None
    base_revision: str | None = None
    required: frozenset[str] = frozenset()
    """LoRAAdapters without which the engine does not start and the pod is not ready."""
    pod_uid: str = ""
    adapters: Path = Path(names.ADAPTERS_DIRECTORY)
    desired: Path = Path(names.DESIRED_DIRECTORY) / names.DESIRED_FILE
    secrets: Path = Path(names.SECRETS_DIRECTORY)
    store_bytes: int | None = None
    port: int = names.AGENT_PORT
    listen: str | None = None
    """Address to listen on; None is all: kubelet and operator come to the pod's own."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises `SettingsError`."""

    def text(name: str) -> str | None:
        return environment.get(name, "").strip() or None

    def path(name: str, default: Path) -> Path:
        return Path(text(name) or default)

    defaults = Settings(engine=_needed(text, names.ENGINE_VARIABLE), engine_url=_url(text(names.ENGINE_URL_VARIABLE)))
    return Settings(
        engine=defaults.engine,
        engine_url=defaults.engine_url,
        engine_key=text(names.ENGINE_KEY_VARIABLE),
        max_rank=_number(text, names.ENGINE_MAX_RANK_VARIABLE),
        base_model=text(names.BASE_MODEL_VARIABLE),
        base_revision=text(names.BASE_REVISION_VARIABLE),
        required=_list(text(names.REQUIRED_ADAPTERS_VARIABLE)),
        pod_uid=text(names.POD_UID_VARIABLE) or "",
        adapters=path(ADAPTERS_VARIABLE, defaults.adapters),
        desired=path(DESIRED_VARIABLE, defaults.desired),
        secrets=path(SECRETS_VARIABLE, defaults.secrets),
        store_bytes=_number(text, names.STORE_BYTES_VARIABLE),
        port=_number(text, PORT_VARIABLE) or defaults.port,
        listen=text(LISTEN_VARIABLE),
    )


def _needed(text: _Text, name: str) -> str:
    value = text(name)
    if value is None:
        raise SettingsError(f"{name} is not set; write vllm, sglang, lorax, dirwatch or static")
    return value


def _url(value: str | None) -> str:
    """Return the URL without a slash at its end; engines without an API need none."""
    if value and not value.startswith(("http://", "https://")):
        raise SettingsError(f"{names.ENGINE_URL_VARIABLE} is no URL; write http://127.0.0.1:PORT")
    return (value or "").rstrip("/")


def _number(text: _Text, name: str) -> int | None:
    value = text(name)
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise SettingsError(f"{name}: {value} is no positive whole number; correct it or leave it out")
    return int(value)


def _list(value: str | None) -> frozenset[str]:
    return frozenset(part for each in (value or "").split(",") if (part := each.strip()))
