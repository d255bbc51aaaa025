"""Which inference engine a pod runs, in which container, and on which port. Pure.

Annotations win; what they leave out is read from commands and images. Nothing here changes a pod, and a guess that
could be wrong is a refusal that says what to write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lora_api.names import (
    AGENT_PORT,
    ENGINE_ANNOTATION,
    ENGINE_CONTAINER_ANNOTATION,
    ENGINE_PORT_ANNOTATION,
)
from lora_operator.domain.commands import CommandLine, read_command_line

Document = dict[str, Any]


class InjectionRefusedError(Exception):
    """The pod cannot be given an agent as it stands. The message names field and value, and says what to write."""


class Engine(StrEnum):
    """How an agent talks to an engine: the values of the annotation, and of the agent's `LORA_ENGINE`."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LORAX = "lorax"
    DIRWATCH = "dirwatch"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Product:
    """One engine as it is known by its image, its commands, and its habits."""

    engine: Engine
    name: str = ""
    """For people."""
    images: tuple[str, ...] = ()
    """Words of an image's repository by which it is known; more than one word stand in this order."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Beginnings of a plain command, after the Python interpreter and its `-m`."""
    port: int = 8000
    port_flags: tuple[str, ...] = ("--port",)
    port_variable: str = ""
    key_flags: tuple[str, ...] = ()
    """Flags with the key that the engine asks for, the one that allows most first."""
    key_variables: tuple[str, ...] = ()


VLLM: Final = Product(
    Engine.VLLM,
    "vLLM",
    ("vllm",),
    (("vllm", "serve"), ("vllm.entrypoints.openai.api_server",), ("vllm.entrypoints.cli.main", "serve")),
    key_flags=("--api-key",),
    key_variables=("VLLM_API_KEY",),
)
SGLANG: Final = Product(
    Engine.SGLANG,
    "SGLang",
    ("sglang",),
    (("sglang.launch_server",), ("sglang", "serve")),
    port=30000,
    key_flags=("--admin-api-key", "--api-key"),
    key_variables=("SGLANG_API_KEY",),
)
LORAX: Final = Product(
    Engine.LORAX,
    "LoRAX",
    ("lorax",),
    (("lorax-launcher",),),
    port=80,
    port_flags=("--port", "-p"),
    port_variable="PORT",
)
TGI: Final = Product(
    Engine.STATIC,
    "Text Generation Inference",
    ("text", "generation", "inference"),
    (("text-generation-launcher",),),
    port=80,
    port_flags=("--port", "-p"),
    port_variable="PORT",
    key_flags=("--api-key",),
    key_variables=("API_KEY",),
)
NIM: Final = Product(Engine.DIRWATCH, "NIM", ("nim",), port_variable="NIM_HTTP_API_PORT")
PRODUCTS: Final = (VLLM, SGLANG, LORAX, TGI, NIM)
_BY_ANNOTATION: Final = {
    Engine.VLLM: VLLM,
    Engine.SGLANG: SGLANG,
    Engine.LORAX: LORAX,
    Engine.DIRWATCH: Product(Engine.DIRWATCH),
    Engine.STATIC: Product(Engine.STATIC, port=80),
}
"""What is known of an engine that its author named, and that nothing else shows."""


@dataclass(frozen=True, slots=True)
class Found:
    """The engine of a pod."""

    product: Product
    container: Document
    """As it stands in the pod; not to be changed."""
    port: int
    secure: bool
    """Whether it speaks TLS."""

    @property
    def url(self) -> str:
        """Where the agent reaches it, from inside the pod."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"


def find_engine(pod: Document) -> Found:
    """Return the engine of a pod. Raises `InjectionRefusedError`."""
    annotations = annotations_of(pod)
    containers = pod["spec"].get("containers") or []
    wanted = _wanted_engine(annotations)
    container = _choose_container(containers, annotations.get(ENGINE_CONTAINER_ANNOTATION), wanted)
    product = _product_of(container, wanted)
    if product is None:
        raise InjectionRefusedError(
            f"annotation {ENGINE_ANNOTATION} is missing, and image {container.get('image', '')!r} of container"
            f" {container['name']!r} is of no known engine: write one of {', '.join(Engine)}"
        )
    line = read_command_line(container, product.commands)
    secure = any(line.has(flag) for flag in ("--ssl-certfile", "--ssl-keyfile"))
    return Found(product, container, _port(annotations, container, product, line), secure)


def annotations_of(pod: Document) -> dict[str, str]:
    """Return the annotations of a pod."""
    return dict((pod.get("metadata") or {}).get("annotations") or {})


def recognise(container: Document) -> Product | None:
    """Return the engine that a container runs: its command says it better than the name of its image."""
    for product in PRODUCTS:
        if product.commands and read_command_line(container, product.commands).found:
            return product
    words = _image_words(str(container.get("image") or ""))
    return next((each for each in PRODUCTS if _in_order(each.images, words)), None)


def _wanted_engine(annotations: Mapping[str, str]) -> Engine | None:
    text = annotations.get(ENGINE_ANNOTATION)
    if text is None:
        return None
    try:
        return Engine(text.strip().lower())
    except ValueError:
        raise InjectionRefusedError(
            f"annotation {ENGINE_ANNOTATION}: {text!r} is no known engine: write one of {', '.join(Engine)}"
        ) from None


def _choose_container(containers: Sequence[Document], named: str | None, wanted: Engine | None) -> Document:
    names = [each["name"] for each in containers]
    if named is not None:
        if named.strip() not in names:
            raise InjectionRefusedError(
                f"annotation {ENGINE_CONTAINER_ANNOTATION}: the pod has no container {named!r}: write one of"
                f" {', '.join(names)}"
            )
        return containers[names.index(named.strip())]
    recognised = {each["name"]: product for each in containers if (product := recognise(each))}
    fitting = [name for name, product in recognised.items() if wanted in (None, product.engine)]
    if len(fitting) > 1:
        raise InjectionRefusedError(
            f"annotation {ENGINE_CONTAINER_ANNOTATION} is missing, and the containers {', '.join(fitting)} all look"
            " like engines: write the name of one of them"
        )
    return containers[names.index(fitting[0]) if fitting else 0]


def _product_of(container: Document, wanted: Engine | None) -> Product | None:
    product = recognise(container)
    if wanted is None or (product is not None and product.engine is wanted):
        return product
    return _BY_ANNOTATION[wanted]


def _port(annotations: Mapping[str, str], container: Document, product: Product, line: CommandLine) -> int:
    if (text := annotations.get(ENGINE_PORT_ANNOTATION)) is not None:
        port = _as_port(text)
        if port is None:
            raise InjectionRefusedError(
                f"annotation {ENGINE_PORT_ANNOTATION}: {text!r} is no port: write a number from 1 to 65535"
            )
    else:
        port = _flag_port(product, line) or _container_port(container) or product.port
    if port == AGENT_PORT:
        raise InjectionRefusedError(
            f"the engine's port {port} is that of the agent: let the engine listen on another one, and write it into"
            f" annotation {ENGINE_PORT_ANNOTATION}"
        )
    return port


def _flag_port(product: Product, line: CommandLine) -> int | None:
    said = [line.value(flag) for flag in product.port_flags]
    if product.port_variable:
        said.append(line.literal(product.port_variable))
    return next((port for each in said if (port := _as_port(each))), None)


def _container_port(container: Document) -> int | None:
    ports = container.get("ports") or []
    named = [each for each in ports if each.get("name") == "http"]
    return next((int(each["containerPort"]) for each in [*named, *ports]), None)


def _as_port(text: str | None) -> int | None:
    stripped = (text or "").strip()
    if not stripped.isascii() or not stripped.isdigit() or len(stripped) > len("65535"):
        return None
    return int(stripped) if 0 < int(stripped) <= 65535 else None


def _image_words(image: str) -> list[str]:
    """Return the words of an image's repository, without registry, tag and digest: their owner may be called so."""
    repository = image.partition("@")[0]
    head, slash, tail = repository.rpartition("/")
    repository = head + slash + tail.partition(":")[0]
    first, slash, rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        repository = rest
    for separator in "/-_.":
        repository = repository.replace(separator, " ")
    return repository.lower().split()


def _in_order(wanted: Sequence[str], words: Sequence[str]) -> bool:
    size = len(wanted)
    return size > 0 and any(tuple(words[start : start + size]) == tuple(wanted) for start in range(len(words)))
