"""What an engine needs to load adapters at run time, and how much of it may be added to a container. Pure.

Nothing that the pod's author set is overridden, and a command that is not understood is left alone: a wrong flag would
keep the engine from starting. What could not be done becomes a note that says exactly what to add.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lora_api.names import ADAPTERS_DIRECTORY, ENGINE_KEY_VARIABLE
from lora_api.reasons import Reason
from lora_operator.domain.commands import CommandLine, Shape, read_command_line, reference
from lora_operator.domain.engines import NIM, SGLANG, TGI, VLLM, Found

Document = dict[str, Any]

DEFAULT_RANK: Final = 64
"""Above what most people train, and one of the values that vLLM takes; the engine reserves memory for it. The rank of
an adapter is not known here: it stands in the bucket."""
VLLM_DEFAULT_RANK: Final = 16
"""What vLLM takes if nothing is said."""
MAX_LORAS: Final = 8
"""Adapters in one batch; each reserves GPU memory, and more names than this may be served."""
RUNTIME_LOADING: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_REFRESH_SECONDS: Final = 10
_SEVERAL_SERVERS: Final = {
    VLLM: ("--api-server-count", "-asc", "--data-parallel-size", "-dp"),
    SGLANG: ("--dp-size", "--dp", "--data-parallel-size"),
}
"""Flags with which an engine runs several processes of which a load call reaches one."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the pod's author has to know or to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class EngineChange:
    """What is added to the engine's container, and what is known of it."""

    environment: tuple[Document, ...] = ()
    arguments: tuple[str, ...] = ()
    max_rank: int | None = None
    """Largest rank that the engine will take; None if that cannot be seen."""
    reads_by_name: bool = False
    """Whether it is told the adapters of the request by name, once, and cannot start before their files are there."""
    notes: tuple[Note, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be served, and whether the engine's flags may be touched."""

    adapters: int
    """Adapters that the pod names."""
    served_names: tuple[str, ...] = ()
    """Model names of those that exist."""
    allowed: bool = True


def change_engine(found: Found, request: Request) -> EngineChange:
    """Return what the engine of a pod is given."""
    line = read_command_line(found.container, found.product.commands)
    if found.product is VLLM:
        return _vllm(line, request)
    if found.product is SGLANG:
        return _sglang(line, request)
    if found.product is NIM:
        return _nim(line, request)
    if found.product is TGI:
        return _tgi(line, request)
    return EngineChange()


def engine_key(found: Found) -> tuple[Document | None, tuple[Note, ...]]:
    """Return the agent's variable with the key that the engine asks for; None if it asks for none that can be seen."""
    line = read_command_line(found.container, found.product.commands)
    raw = next((said for flag in found.product.key_flags if (said := line.raw(flag))), None)
    if raw is None:
        set_ones = (name for name in found.product.key_variables if line.variable(name))
        name = next(set_ones, None)
        raw = f"$({name})" if name else None
    if raw is None:
        return None, ()
    entry = line.variable(reference(raw) or "")
    if entry is not None and entry.get("valueFrom"):
        return {"name": ENGINE_KEY_VARIABLE, "valueFrom": entry["valueFrom"]}, ()
    value = line.expand(raw)
    if value is None:
        return None, (_note("the engine asks for a key that the webhook cannot see: set it in a variable under env, and"
                            " not under envFrom or within a longer text"),)  # fmt: skip
    return {"name": ENGINE_KEY_VARIABLE, "value": literal(value)}, ()


def literal(value: str) -> str:
    """Return a value for a container's `env` of which the kubelet replaces nothing."""
    return value.replace("$", "$$")


def _vllm(line: CommandLine, request: Request) -> EngineChange:
    variable = () if line.variable(RUNTIME_LOADING) else ({"name": RUNTIME_LOADING, "value": "1"},)
    loras = min(max(request.adapters, 1) + 1, MAX_LORAS)
    wanted = {"--enable-lora": "", "--max-lora-rank": str(DEFAULT_RANK), "--max-loras": str(loras)}
    missing = _missing(line, wanted)
    if (obstacle := _obstacle(line, _SEVERAL_SERVERS[VLLM]) or _switched_off(line)) is not None:
        return EngineChange(max_rank=_said_rank(line), notes=(obstacle,))
    readable = line.shape is not Shape.UNKNOWN
    enabled = line.has("--enable-lora")
    if request.allowed and line.shape is Shape.PLAIN and not line.has("--config"):
        return EngineChange(variable, missing, _said_rank(line) or _rank_unless_said(line))
    if request.allowed and readable and enabled:
        return EngineChange(variable, (), _default_rank(line))
    needs_flags = readable and not enabled
    if not variable and not needs_flags:
        return EngineChange(max_rank=_default_rank(line) if enabled else None)
    flags = () if enabled else missing
    return EngineChange(max_rank=_said_rank(line), notes=(_lacks(line, flags, variable),))


def _rank_unless_said(line: CommandLine) -> int | None:
    return None if line.has("--max-lora-rank") else DEFAULT_RANK


def _default_rank(line: CommandLine) -> int | None:
    if line.has("--max-lora-rank") or line.has("--config"):
        return _said_rank(line)
    return VLLM_DEFAULT_RANK


def _sglang(line: CommandLine, request: Request) -> EngineChange:
    wanted = {"--enable-lora": "", "--max-lora-rank": str(DEFAULT_RANK), "--lora-target-modules": "all"}
    missing = _missing(line, wanted)
    if (obstacle := _obstacle(line, _SEVERAL_SERVERS[SGLANG])) is not None:
        return EngineChange(max_rank=_said_rank(line), notes=(obstacle,))
    # The image has no entrypoint of its own, so arguments without a command say nothing.
    if request.allowed and line.shape is Shape.PLAIN and line.found and not line.has("--config"):
        return EngineChange((), missing, _said_rank(line) or _rank_unless_said(line))
    lacks = not line.has("--lora-paths") and bool(missing)
    return EngineChange(max_rank=_said_rank(line), notes=(_lacks(line, missing, ()),) if lacks else ())


def _nim(line: CommandLine, request: Request) -> EngineChange:
    wanted = {"NIM_PEFT_SOURCE": ADAPTERS_DIRECTORY, "NIM_PEFT_REFRESH_INTERVAL": str(_REFRESH_SECONDS)}
    missing = tuple({"name": name, "value": value} for name, value in wanted.items() if not line.variable(name))
    rank = line.literal("NIM_MAX_LORA_RANK") or ""
    max_rank = int(rank) if rank.isascii() and rank.isdigit() else None
    source = line.variable("NIM_PEFT_SOURCE")
    if source is not None and line.literal("NIM_PEFT_SOURCE") != ADAPTERS_DIRECTORY:
        note = _note(f"NIM_PEFT_SOURCE names another folder than the agent's: write {ADAPTERS_DIRECTORY}")
        return EngineChange(max_rank=max_rank, notes=(note,))
    if request.allowed:
        return EngineChange(missing, (), max_rank)
    return EngineChange(max_rank=max_rank, notes=(_lacks(line, (), missing),) if missing else ())


def _tgi(line: CommandLine, request: Request) -> EngineChange:
    """It reads its adapters once, at its start; the agent has them in place by then."""
    if line.has("--lora-adapters") or not request.served_names:
        return EngineChange()
    value = ",".join(f"{name}={ADAPTERS_DIRECTORY}/{name}" for name in request.served_names)
    if line.variable("LORA_ADAPTERS"):  # perhaps our own, of an earlier look at the same pod
        return EngineChange(reads_by_name=line.literal("LORA_ADAPTERS") == value)
    missing = ({"name": "LORA_ADAPTERS", "value": value},)
    if not request.allowed:
        return EngineChange(notes=(_lacks(line, (), missing),))
    return EngineChange(missing, reads_by_name=True)


def _missing(line: CommandLine, wanted: dict[str, str]) -> tuple[str, ...]:
    """Return the words that are to be added, of flags and their values."""
    pairs = [(flag, value) for flag, value in wanted.items() if not line.has(flag)]
    return tuple(word for flag, value in pairs for word in (flag, value) if word)


def _obstacle(line: CommandLine, several: Sequence[str]) -> Note | None:
    """Return why the engine cannot load adapters at run time, whatever is added."""
    if line.denies("--enable-lora"):
        return _note("the engine is told --no-enable-lora: take that away")
    for flag in several:
        if line.has(flag) and line.value(flag) != "1":
            return _note(
                f"the engine runs several servers ({flag} {line.raw(flag) or ''}".rstrip()
                + "), of which a call would reach only one, so it loads no adapters at run time: use one server a pod,"
                " and more pods"
            )
    return None


def _switched_off(line: CommandLine) -> Note | None:
    said = line.literal(RUNTIME_LOADING)
    if said is None or said.strip().lower() in ("1", "true"):
        return None
    return _note(f"{RUNTIME_LOADING}={said} keeps the engine from loading adapters: write 1, or take it away")


def _said_rank(line: CommandLine) -> int | None:
    text = line.value("--max-lora-rank") or ""
    return int(text) if text.isascii() and text.isdigit() else None


def _lacks(line: CommandLine, flags: Sequence[str], variables: Sequence[Document]) -> Note:
    parts = []
    if flags:
        parts.append(f"the flags {' '.join(flags)}")
    if variables:
        parts.append("the environment " + " ".join(f"{each['name']}={each['value']}" for each in variables))
    why = {
        Shape.PLAIN: "its flags are left as they are",
        Shape.SCRIPT: "a shell script starts it, which is left alone",
        Shape.UNKNOWN: "how it is started cannot be seen",
    }[line.shape]
    if line.has("--config"):
        why = "what its --config file says cannot be seen"
    return _note(f"the engine may lack what it needs to load adapters, and {why}: add {' and '.join(parts)}")


def _note(message: str) -> Note:
    return Note(Reason.ENGINE_FLAGS_MISSING, message)
