"""Whether this engine, with its base model, can serve an adapter that lies on disk; asked before each load.

It reads the config, the header of the weights, the manifest, and what is known of the pod, and never a weight. What an
engine would accept and serve wrongly is refused here, as is what it would refuse after minutes. Nothing is refused that
is only unknown: a base model in a folder proves nothing about its name, and the probe that follows looks at answers.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lora_agent.faults import Fault
from lora_agent.safetensors_header import HeaderError, read_header, shown
from lora_agent.tensors import tensor_fault
from lora_api.artifacts import Manifest
from lora_api.delivery import DesiredAdapter
from lora_api.messages import Servability
from lora_api.names import BASE_MODEL_ANNOTATION, BASE_REVISION_ANNOTATION
from lora_api.reasons import Reason
from lora_api.servability import VLLM, AdapterConfig, verdicts, vllm_rank_limit

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1024 * 1024
_PICKLE_NAME = "adapter_model.bin"
_PEFT_TYPE = "LORA"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HUB = "hf://"


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of the engine beside the agent."""

    engine: str
    """vllm, sglang, lorax, dirwatch or static."""
    max_rank: int | None
    base_model: str | None
    """What the pod's author declared, as a LoRAAdapter names it."""
    base_revision: str | None
    """What the pod's author declared."""
    engine_bases: tuple[str, ...]
    """Ids and roots of base models, as the engine says them."""


class _NotAnAdapterError(Exception):
    """Why a folder holds no adapter, in one sentence."""


def verdicts_of(folder: Path, manifest: Manifest | None) -> list[Servability]:
    """Return a verdict for each engine by the adapter's config, or what the manifest says where that cannot be read.

    Raises `OSError` where the disk fails.
    """
    try:
        return verdicts(_config(folder))
    except _NotAnAdapterError:
        return manifest.servable if manifest else []


def refusal(folder: Path, desired: DesiredAdapter, manifest: Manifest | None, pod: PodFacts) -> Fault | None:
    """Return why the engine is not to load the adapter in a folder, or None. Every fault is permanent.

    Raises `OSError` where the disk fails, which may pass.
    """
    try:
        config = _config(folder)
        message = (
            _option_fault(config, pod)
            or _rank_fault(config, pod)
            or _base_fault(desired, pod)
            or _revision_fault(desired, pod)
            or _manifest_fault(desired, manifest)
            or _weights_fault(folder, config, pod)
        )
    except _NotAnAdapterError as error:
        return Fault(Reason.NOT_AN_ADAPTER, str(error), permanent=True)
    return Fault(Reason.INCOMPATIBLE, message, permanent=True) if message else None


# The files.


def _config(folder: Path) -> AdapterConfig:
    content = _json(folder / CONFIG_NAME)
    try:
        config = AdapterConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = shown(".".join(map(str, first["loc"])) or CONFIG_NAME)
        raise _NotAnAdapterError(
            f"{CONFIG_NAME}: {field}: {shown(first['msg'])}; save the adapter with PEFT's save_pretrained"
        ) from None
    if (config.peft_type or "").upper() != _PEFT_TYPE:
        kind = shown(str(config.peft_type or "nothing"), 40)
        raise _NotAnAdapterError(f"{CONFIG_NAME}: peft_type is {kind}; only LORA adapters are served")
    return config


def _json(file: Path) -> Any:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise _NotAnAdapterError(
            f"{file.name} is missing; spec.source.uri must name a folder that PEFT wrote"
        ) from None
    if len(content) > MAX_CONFIG_BYTES:
        raise _NotAnAdapterError(f"{file.name} has more than {MAX_CONFIG_BYTES} bytes; publish the adapter again")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise _NotAnAdapterError(f"{file.name} is no JSON; publish the adapter again") from None


def _weights_fault(folder: Path, config: AdapterConfig, pod: PodFacts) -> str | None:
    try:
        tensors = read_header(folder / WEIGHTS_NAME)
    except FileNotFoundError:
        why = f"{_PICKLE_NAME} is not read, as it can hold code" if (folder / _PICKLE_NAME).exists() else "no weights"
        raise _NotAnAdapterError(f"{WEIGHTS_NAME} is missing ({why}); save the adapter as safetensors") from None
    except HeaderError as error:
        raise _NotAnAdapterError(f"{WEIGHTS_NAME}: {error}; publish the adapter again") from None
    return tensor_fault(tensors, config, pod.engine)


# The engine.


def _option_fault(config: AdapterConfig, pod: PodFacts) -> str | None:
    found = verdicts(config)
    own = next((each for each in found if each.engine == pod.engine and not each.servable), None)
    if own is None:
        return None
    others = [each.engine for each in found if each.servable]
    instead = f" or serve it with {' or '.join(others)}" if others else ""
    return f"{CONFIG_NAME}: {pod.engine} cannot serve this adapter: {own.message}; train it without that{instead}"


def _rank_fault(config: AdapterConfig, pod: PodFacts) -> str | None:
    rank = config.highest_rank
    if pod.max_rank is None or rank <= pod.max_rank:
        return None
    needed = vllm_rank_limit(rank) if pod.engine == VLLM else rank
    return (
        f"{CONFIG_NAME}: rank {rank} is above the {pod.max_rank} of the engine; "
        f"start the engine with --max-lora-rank {needed}"
    )


# The base model.


def _base_fault(desired: DesiredAdapter, pod: PodFacts) -> str | None:
    wanted = _plain(desired.base_model.name)
    declared = f"annotate the pod with {BASE_MODEL_ANNOTATION}: {shown(wanted)} if it is a copy of that one"
    if pod.base_model:
        if _plain(pod.base_model) == wanted:
            return None
        return (
            f"spec.baseModel.name: the adapter is for {shown(wanted)}, and the pod declares "
            f"{shown(_plain(pod.base_model))}; {declared}"
        )
    served = [_plain(each) for each in pod.engine_bases]
    if wanted in served or not served or not _is_hub_id(wanted) or not all(map(_is_name, served)):
        return None
    hub_ids = [each for each in served if _is_hub_id(each)]
    if not hub_ids:
        return None
    other = shown(hub_ids[0])
    return f"spec.baseModel.name: the adapter is for {shown(wanted)}, and the engine serves {other}; {declared}"


def _plain(name: str) -> str:
    return name.removeprefix(_HUB).rstrip("/")


def _is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None


def _is_name(name: str) -> bool:
    """Whether this can be a name that somebody gave to a model, or its id; a folder or URI may hold any model."""
    return _is_hub_id(name) or "/" not in name


def _revision_fault(desired: DesiredAdapter, pod: PodFacts) -> str | None:
    wanted, served = desired.base_model.revision, pod.base_revision
    if not wanted or not served or not _differ(wanted, served):
        return None
    return (
        f"spec.baseModel.revision: the adapter is for {shown(wanted)}, and the pod declares {shown(served)}; "
        f"serve that revision, or correct {BASE_REVISION_ANNOTATION}"
    )


def _differ(first: str, second: str) -> bool:
    """Whether two revisions are certainly not the same: a branch may well be at a commit."""
    if _COMMIT.fullmatch(first) and _COMMIT.fullmatch(second):
        return not (first.startswith(second) or second.startswith(first))
    exact = (_COMMIT, _DIGEST)
    kinds = [next((kind for kind in exact if kind.fullmatch(each)), None) for each in (first, second)]
    return kinds[0] is kinds[1] and first != second


def _manifest_fault(desired: DesiredAdapter, manifest: Manifest | None) -> str | None:
    if manifest is None:
        return None
    wanted, trained = desired.base_model, manifest.base_model
    if _plain(wanted.name) not in (_plain(trained.name), _plain(trained.uri)):
        return (
            f"spec.baseModel.name is {shown(_plain(wanted.name))}, and the adapter was trained on "
            f"{shown(_plain(trained.name))} by its manifest; write that name"
        )
    if wanted.revision and trained.revision and _differ(wanted.revision, trained.revision):
        return (
            f"spec.baseModel.revision is {shown(wanted.revision)}, and the adapter was trained on "
            f"{shown(trained.revision)} by its manifest; write that revision, or none"
        )
    return None
