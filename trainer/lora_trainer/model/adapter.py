"""The adapter on a base model: what is trained, in float32, on a base that stays frozen.

Every option of the API becomes PEFT's, and afterwards the model is asked whether each layer that was named has an
adapter: a layer that stayed frozen in silence would only show as a model that learned too little.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Initialization
from lora_trainer.errors import invalid_request
from lora_trainer.logs import log
from lora_trainer.model.heads import whole_modules
from lora_trainer.model.initialization import ADAPTER, change_base
from lora_trainer.model.options import CHANGING, check_options
from lora_trainer.model.recompute import use_activation_checkpointing
from lora_trainer.model.targets import Shape, changed_layers, is_experts, matches, ranks, resolve_targets, stacked
from lora_trainer.model.whole import keep_in_float32
from lora_trainer.tasks import rules_of

_INITIAL = "lora_initial_factors"
_ROOT = "base_model.model."
_WRAPPERS = re.compile(r"(^|\.)(_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)(?=\.)")
_STARTS: dict[Initialization, bool | str] = {
    Initialization.KAIMING: True,
    Initialization.GAUSSIAN: "gaussian",
    Initialization.ORTHOGONAL: "orthogonal",
    # B starts at zero, and `change_base` puts the factors in.
    Initialization.PISSA: True,
    Initialization.OLORA: True,
}


def add_adapter(
    model: PreTrainedModel,
    spec: LoRAJobSpec,
    *,
    seed: int,
    checkpoint: bool = False,
    initial: Mapping[str, Tensor] | None = None,
) -> PeftModel:
    """Freeze the base and put a fresh adapter on it. The same seed gives the same adapter.

    `checkpoint` computes activations again in the backward pass. `initial` is the `initial_state` of the attempt that a
    resumed run goes on from. Raises 64 for settings that this model cannot be trained with.
    """
    whole = whole_modules(model) if rules_of(spec).whole_modules else []
    saved = _saved_modules(model, spec, whole)
    layers = layers_of(model, saved)
    targets = resolve_targets(spec.lora, layers)
    layer_ranks = ranks(spec.lora, targets, layers)  # refuses a rankPattern that fits nothing, which PEFT would ignore
    check_options(spec, layer_ranks, layers)
    torch.manual_seed(seed)
    with warnings.catch_warnings(action="ignore"):  # PEFT warns of ties that are kept, see `lora_config`
        adapted = get_peft_model(model, lora_config(model, spec, targets, layers, saved), autocast_adapter_dtype=True)
    keep_in_float32(adapted, whole)
    _check_adapted(adapted, layer_ranks)
    start = spec.lora.initialization
    setattr(adapted, _INITIAL, change_base(adapted, start, initial) if start in CHANGING else {})
    if checkpoint:
        use_activation_checkpointing(adapted)
    trainable, total = adapted.get_nb_trainable_parameters()
    log("adapter added", targets=targets, saved=saved, trainableParameters=trainable, parameters=total - trainable)
    return adapted  # type: ignore[return-value]


def lora_config(
    model: PreTrainedModel, spec: LoRAJobSpec, targets: list[str], layers: Mapping[str, Shape], saved: list[str]
) -> LoraConfig:
    """Return PEFT's config for the LoRA settings of a job on a model."""
    lora = spec.lora
    changed = changed_layers(targets, layers)
    experts = {path for path in changed if is_experts(path)}
    modules = {name: model.get_submodule(name) for name in changed if name not in experts}
    alpha = int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha  # engines expect a whole number
    return LoraConfig(
        task_type=rules_of(spec).peft_task,
        r=lora.rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=_naming(targets, set(modules)),
        target_parameters=_naming(targets, experts) or None,
        use_rslora=lora.rs_lora,
        use_dora=lora.do_ra,
        rank_pattern=dict(lora.rank_pattern),
        modules_to_save=saved or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in modules.values()),
        ensure_weight_tying=_saves_tied(model, saved),
        bias="none",
        init_lora_weights=_STARTS[lora.initialization],  # type: ignore[arg-type]
    )


def layers_of(model: PreTrainedModel, saved: list[str]) -> dict[str, Shape]:
    """Return the layers that an adapter can change, by path: linear ones and stacked experts.

    Without the output layer, and without what is trained whole (`saved`).
    """
    output, layers = model.get_output_embeddings(), {}
    for path, module in model.named_modules():
        if module is output or any(f".{name}." in f".{path}." for name in saved):
            continue
        if isinstance(module, nn.Linear):
            layers[path] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            layers[path] = (module.weight.shape[1], module.weight.shape[0])
        elif is_experts(f"{path}."):
            stacks = ((name, value) for name, value in module.named_parameters(recurse=False) if value.dim() == 3)
            layers |= {f"{path}.{name}": stacked(tuple(value.shape)) for name, value in stacks}
    return layers


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return all that is trained, on the CPU, by names that no wrapper changes, sorted.

    Of a sharded model the whole tensors, so every rank has to call.
    """
    named = _trained(model)
    return {name: _whole(named[name]).detach().cpu().clone() for name in sorted(named)}


def initial_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the factors that the adapter took out of the base at its start; empty when it took none.

    A checkpoint has to keep them: a resumed run hands them to `add_adapter`, and the publication subtracts them.
    """
    return dict(getattr(model, _INITIAL, {}))


def _naming(targets: list[str], paths: set[str]) -> list[str]:
    """Return the targets that name the paths, for each path the most exact one."""
    return sorted({max((name for name in targets if matches(path, name)), key=len) for path in paths})


def _saved_modules(model: PreTrainedModel, spec: LoRAJobSpec, whole: list[str]) -> list[str]:
    """Return the modules that are trained whole: the new head, and those that the job names."""
    names = {path for path, module in model.named_modules() if path and any(True for _ in module.parameters())}
    for name in spec.lora.modules_to_save:
        if not any(matches(path, name) for path in names):
            raise invalid_request(
                f"spec.lora.modulesToSave: {name} is no module with weights of the base model",
                "name a module such as embed_tokens; the head of a classification is saved without being named",
            )
    return sorted({*whole, *spec.lora.modules_to_save})


def _saves_tied(model: PreTrainedModel, saved: list[str]) -> bool:
    """Whether embeddings that are also the output layer are trained whole: both must stay one."""
    if not getattr(model.config, "tie_word_embeddings", False) or model.get_output_embeddings() is None:
        return False
    tied = (model.get_input_embeddings(), model.get_output_embeddings())
    paths = [path for path, module in model.named_modules() if any(module is each for each in tied)]
    return any(matches(path, name) for path in paths for name in saved)


def _check_adapted(adapted: Any, layer_ranks: Mapping[str, int]) -> None:
    """Raise 64 where PEFT put no adapter, or one of another rank, on a layer that was asked for."""
    found = {
        _layer_path(path, layer): layer.r[ADAPTER] for path, layer in adapted.named_modules() if _is_adapter(layer)
    }
    wrong = sorted(path for path in layer_ranks.keys() | found.keys() if layer_ranks.get(path) != found.get(path))
    if wrong:
        raise invalid_request(
            f"spec.lora.targetModules: PEFT does not adapt {wrong[0]} as it is asked to ({len(wrong)} layers)",
            "name the other layers in spec.lora.targetModules, without this one",
        )


def _is_adapter(module: nn.Module) -> bool:
    return isinstance(module, LoraLayer) and ADAPTER in module.r


def _layer_path(path: str, layer: Any) -> str:
    """Return the path of an adapted layer in the base; several parameters of one module wrap each other."""
    path = path.removeprefix(_ROOT).replace(".base_layer", "")
    return f"{path}.{layer.parameter_name}" if isinstance(layer, ParamWrapper) else path


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return all trained parameters by plain name; one that two modules share appears under both."""
    named = model.named_parameters(remove_duplicate=False)
    return {_plain(name): value for name, value in named if value.requires_grad}


def _plain(name: str) -> str:
    return _WRAPPERS.sub("", name).removeprefix(".").removeprefix("module.")


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value
