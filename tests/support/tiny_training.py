"""A trainer on a tiny model, without data files, store or pods: what the tests of the loop share."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan
from lora_trainer.checkpoint.state import TrainingState
from lora_trainer.data.examples import IGNORED, Examples, examples_of
from lora_trainer.model.attention import use_packed_attention
from lora_trainer.model.output_layer import install_output_layer
from lora_trainer.model.sharding import shard
from lora_trainer.progress import ProgressState
from lora_trainer.ranks import Ranks, join_ranks
from lora_trainer.signals import StopSignal
from lora_trainer.tasks import rules_of
from lora_trainer.training.collate import Collator
from lora_trainer.training.guard import LossGuard
from lora_trainer.training.losses import counts_of, loss_of
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.saving import Saving
from lora_trainer.training.setup import training_arguments
from lora_trainer.training.trainer import LoraTrainer, Run
from support.specs import SMALLEST

LENGTHS = [5, 40, 9, 33, 7, 21, 12, 60, 6, 17, 28, 11, 45, 8, 19, 31]
VOCABULARY = 300


def random_examples(lengths: list[int] = LENGTHS, seed: int = 1) -> Examples:
    """Return rows of random tokens, of which the last two thirds are learned."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        ids = torch.randint(0, VOCABULARY, (length,), generator=generator).tolist()
        prompt = length // 3
        rows.append({"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]})
    return examples_of(rows)


def random_pairs(count: int = 8, seed: int = 1) -> Examples:
    """Return preference pairs of random tokens with prompts in common."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> list[int]:
        return torch.randint(0, VOCABULARY, (length,), generator=generator).tolist()

    rows = []
    for place in range(count):
        prompt, chosen, rejected = tokens(4 + place), tokens(5 + 2 * place), tokens(3 + place)
        ignored = [IGNORED] * len(prompt)
        rows.append(
            {
                "chosen_input_ids": prompt + chosen,
                "chosen_labels": ignored + chosen,
                "rejected_input_ids": prompt + rejected,
                "rejected_labels": ignored + rejected,
            }
        )
    return examples_of(rows)


def tiny_llama(*, dropout: float = 0.0, packing: bool = False) -> Any:
    """Return a Llama of two layers with an adapter that acts, so that both of its matrices have gradients."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    base = LlamaForCausalLM(config)
    if packing:
        assert use_packed_attention(base)
    lora = LoraConfig(r=4, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    install_output_layer(model)
    return model


class KeptCheckpoints:
    """Stands where the uploader does, and keeps the states in memory."""

    def __init__(self) -> None:
        self.states: list[TrainingState] = []
        self.last: Any = None
        self.failure: Any = None

    def save(self, state: TrainingState) -> float:
        """Keep a copy."""
        self.states.append(state.snapshot())
        self.last = SimpleNamespace(step=state.step)
        return 0.0

    def drain(self, timeout_seconds: float) -> bool:
        """There is nothing to wait for."""
        return True


def tiny_trainer(
    folder: Path,
    *,
    micro_batch: int = 4,
    packing: bool = False,
    steps: int = 6,
    found: TrainingState | None = None,
    stop: StopSignal | None = None,
    checkpoints: Any = None,
    kind: Callable[..., LoraTrainer] = LoraTrainer,
    model: Any = None,
    train: Examples | None = None,
    validation: Examples | None = None,
    objective: str = "SFT",
    ranks: Ranks | None = None,
    sharded: bool = False,
    evaluation: dict[str, Any] | None = None,
    **training: Any,
) -> LoraTrainer:
    """Return a trainer on random rows. `training` are fields of spec.training."""
    settings = {"maxSteps": steps, "effectiveBatchSize": 8, "learningRate": 0.01} | training
    spec = LoRAJobSpec.model_validate(
        SMALLEST | {"training": settings, "objective": objective, "evaluation": evaluation}
    )
    model = tiny_llama(packing=packing) if model is None else model
    ranks = join_ranks("cpu") if ranks is None else ranks
    if sharded and ranks.size > 1:
        shard(model, "cpu")
    train = random_examples() if train is None else train
    plan = Plan(
        micro_batch_size=micro_batch,
        accumulation_steps=8 // micro_batch,
        max_length=64,
        total_steps=steps,
        packing=packing,
        sharded=sharded,
    )
    progress = ProgressState()
    recorder = Recorder(folder / f"metrics-{ranks.rank}.jsonl", progress, steps)
    every = spec.training.checkpoint.every if spec.training.checkpoint else None
    saving = Saving(checkpoints, found, recorder, ranks, total_steps=steps, every=every)
    rules = rules_of(spec)
    asked = tuple(spec.evaluation.metrics) if spec.evaluation else ()
    run = Run(
        train=train,
        counts=counts_of(spec, train),
        validation=train if validation is None else validation,
        retention=None,
        collator=Collator(rules, pad_id=0, packed=packing),
        loss=loss_of(spec, []),
        metrics=(*rules.metrics, *asked),
        plan=plan,
        settings=spec.training,
    )
    arguments = training_arguments(spec, plan, folder, model, torch.device("cpu"), ranks)
    torch.manual_seed(3)
    return kind(
        model,
        arguments,
        run,
        LossGuard(5.7),
        ranks=ranks,
        recorder=recorder,
        progress=progress,
        stop=stop or StopSignal(),
        saving=saving,
    )


def weights_of(trainer: LoraTrainer) -> dict[str, torch.Tensor]:
    """Return a copy of the trained weights."""
    return {name: each.detach().clone() for name, each in trainer.model.named_parameters() if each.requires_grad}


def losses_of(trainer: LoraTrainer) -> list[float]:
    """Return all losses in their order, of steps and evaluations."""
    return [line["loss"] if "loss" in line else line["evalLoss"] for line in trainer.recorder.history]
