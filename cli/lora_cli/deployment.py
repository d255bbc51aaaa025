"""What the Deployment of an operator says of its settings: pure.

The operator's flags win over its environment, as in the operator itself. What comes from elsewhere, such as another
object, is not guessed at: a policy that is taken for none would be worse than one that is not known.
"""

import argparse
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

Document = dict[str, Any]
SELECTOR: Final = "app.kubernetes.io/component=controller"
"""Of operators and others: the label with the name follows the chart's `nameOverride`, see `is_operator`."""
_NAME_LABEL: Final = ("app.kubernetes.io/name", "lora-operator")
_CONTAINER: Final = "operator"
_IMAGE, _CONFIG, _NAMESPACES = "LORA_TRAINER_IMAGE", "LORA_CONFIG", "LORA_NAMESPACES"


@dataclass(frozen=True)
class ConfigPlace:
    """Where the configuration file comes from: a key of a ConfigMap beside the Deployment."""

    config_map: str
    key: str


@dataclass(frozen=True)
class OperatorDeployment:
    """The settings that decide what becomes of a LoRAJob."""

    namespace: str
    name: str
    trainer_image: str | None
    """None if it is not written there."""
    namespaces: tuple[str, ...]
    """Those that are served; none means all."""
    config: ConfigPlace | None
    """None if there is no configuration file, or `fault` says why it cannot be found."""
    fault: str = ""

    def serves(self, namespace: str) -> bool:
        """Return whether it looks after the LoRAJobs of a namespace."""
        return not self.namespaces or namespace in self.namespaces


class _UnknownError(Exception):
    """A setting that the Deployment does not hold itself."""


def is_operator(document: Document) -> bool:
    """Return whether a Deployment of a controller is an operator of ours, by its label or by what it is told."""
    label, name = _NAME_LABEL
    if (document["metadata"].get("labels") or {}).get(label) == name:
        return True
    container = _operator_container(_pod(document))
    return any(str(each.get("name")).startswith("LORA_") for each in container.get("env") or [])


def read_deployment(document: Document) -> OperatorDeployment:
    """Read the settings of an operator."""
    metadata, pod = document["metadata"], _pod(document)
    container = _operator_container(pod)
    flags = _flags(container)
    fault, place, image = "", None, None
    try:
        namespaces = flags.namespace or _split(_value(container, _NAMESPACES))
        config = _literal(flags.config) or _value(container, _CONFIG)
        place = _place(config, pod, container) if config else None
    except _UnknownError as error:
        fault, namespaces = str(error), []
    try:
        image = _literal(flags.trainer_image) or _value(container, _IMAGE)
    except _UnknownError:
        image = None
    return OperatorDeployment(
        namespace=metadata["namespace"],
        name=metadata["name"],
        trainer_image=image,
        namespaces=tuple(namespaces),
        config=place,
        fault=fault,
    )


def _pod(document: Document) -> Document:
    return ((document.get("spec") or {}).get("template") or {}).get("spec") or {}


def _operator_container(pod: Document) -> Document:
    containers: list[Document] = pod.get("containers") or [{}]
    return next((each for each in containers if each.get("name") == _CONTAINER), containers[0])


class _Flags(argparse.ArgumentParser):
    """Those of the operator's flags that count here; it allows abbreviations, as the operator does."""

    def __init__(self) -> None:
        super().__init__(add_help=False)
        self.add_argument("--trainer-image")
        self.add_argument("--config")
        self.add_argument("--namespace", action="append")

    def error(self, message: str) -> NoReturn:
        """Take a flag that the operator would refuse as one that is not there."""
        raise _UnknownError(message)


def _flags(container: Document) -> argparse.Namespace:
    words = [str(each) for field in ("command", "args") for each in container.get(field) or []]
    try:
        return _Flags().parse_known_args(words)[0]
    except _UnknownError:
        return argparse.Namespace(trainer_image=None, config=None, namespace=None)


def _value(container: Document, name: str) -> str | None:
    """Return a variable of the container, None if it has none. Raises `_UnknownError` if it comes from elsewhere."""
    entry = next((each for each in reversed(container.get("env") or []) if each.get("name") == name), None)
    if entry is None:
        if container.get("envFrom"):
            raise _UnknownError(f"{name} may come from another object (envFrom)")
        return None
    if entry.get("valueFrom"):
        raise _UnknownError(f"{name} comes from another object (valueFrom)")
    return _literal(entry.get("value"))


def _literal(text: str | None) -> str | None:
    if text and "$(" in text:
        raise _UnknownError(f"{text} is made of variables")
    return text or None


def _split(text: str | None) -> list[str]:
    return [each.strip() for each in (text or "").split(",") if each.strip()]


def _place(path: str, pod: Document, container: Document) -> ConfigPlace:
    """Return which key of which ConfigMap a file of the container is. Raises `_UnknownError`."""
    mounts = sorted(_mounts_above(path, container), key=lambda each: len(each["mountPath"]), reverse=True)
    if not mounts:
        raise _UnknownError(f"its configuration file {path} lies in no volume")
    mount = mounts[0]
    volume: Document = next((each for each in pod.get("volumes") or [] if each.get("name") == mount["name"]), {})
    source: Document = volume.get("configMap") or {}
    if not source.get("name"):
        raise _UnknownError(f"its configuration file {path} lies in the volume {mount['name']}, which is no ConfigMap")
    below = posixpath.relpath(path, mount["mountPath"])
    relative = posixpath.normpath(posixpath.join(mount.get("subPath") or "", below))
    keys = {each.get("path"): each.get("key") for each in source.get("items") or []}
    key = keys.get(relative) if keys else relative
    if not key:
        raise _UnknownError(f"its configuration file {path} is no key of ConfigMap {source['name']}")
    return ConfigPlace(str(source["name"]), key)


def _mounts_above(path: str, container: Document) -> Iterator[Document]:
    for each in container.get("volumeMounts") or []:
        above = posixpath.normpath(each["mountPath"])
        if posixpath.normpath(path) == above or posixpath.normpath(path).startswith(f"{above.rstrip('/')}/"):
            yield each
