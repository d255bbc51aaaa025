"""The model as it is trained: base, adapter, and the ways of computing that give the same numbers faster.

The order matters: attention is switched on the bare base; the adapter comes next; what replaces layers comes last.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan
from lora_api.training import Objective
from lora_trainer.logs import log, warn
from lora_trainer.model.adapter import add_adapter
from lora_trainer.model.attention import use_packed_attention
from lora_trainer.model.fused import fuse_lora
from lora_trainer.model.load import load_base
from lora_trainer.model.output_layer import install_output_layer
from lora_trainer.model.sharding import shard
from lora_trainer.ranks import Ranks
from lora_trainer.tasks import rules_of


def build_model(
    folder: Path,
    spec: LoRAJobSpec,
    labels: list[str],
    plan: Plan,
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks,
    initial: Mapping[str, torch.Tensor] | None = None,
) -> tuple[PeftModel, Plan]:
    """Return the model to train, and the plan without packing where the model cannot keep rows apart.

    `labels` are the classes of a classification; `initial` what `adapter.initial_state` was when the run began.
    """
    divided = plan.sharded and ranks.size > 1
    base = load_base(folder, dtype, spec, labels, torch.device("cpu") if divided else device)
    if plan.packing and not use_packed_attention(base):
        warn("rows are padded: this model cannot keep packed rows apart", model=type(base).__name__)
        plan = plan.model_copy(update={"packing": False})
    if spec.objective is Objective.DPO:  # model and reference must differ by the adapter alone
        without_dropout(base)
    model = add_adapter(base, spec, seed=spec.training.seed, checkpoint=plan.activation_checkpointing, initial=initial)
    fused = fuse_lora(model)
    if not rules_of(spec).whole_modules:
        install_output_layer(model)
    if divided:
        shard(model, device.type)
    log(
        "model ready",
        dtype=str(dtype),
        packing=plan.packing,
        fusedLayers=fused,
        quantized=spec.quantization is not None,
    )
    return model, plan


def without_dropout(model: torch.nn.Module) -> None:
    """Switch the dropout of the base itself off."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
