"""A few real optimizer steps on a tiny model, without the product's loop: what an adapter has to survive."""

from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Task
from lora_trainer.model.adapter import add_adapter
from lora_trainer.model.load import load_base
from lora_trainer.model.quantize import keep_packing
from lora_trainer.tasks import rules_of
from support.specs import SMALLEST
from support.tiny_models import tiny_model_tokenizer

CPU = torch.device("cpu")
LABELS = ["billing", "praise", "other"]
_WORDS = ["The capital of France is Paris.", "Yes", "Hello there, how are you?", "No, thanks. I am fine."]


def job_spec(task: str = "CausalLM", **blocks: Any) -> LoRAJobSpec:
    """Return the spec of a small job. `blocks` are top-level blocks in their wire form."""
    return LoRAJobSpec.model_validate(SMALLEST | {"task": task, "lora": {"rank": 4}} | blocks)


def labels_of(spec: LoRAJobSpec) -> list[str]:
    """Return the labels of a classification, and none otherwise."""
    return LABELS if rules_of(spec).whole_modules else []


def batch(task: str) -> dict[str, torch.Tensor]:
    """Return four padded rows with labels that fit the task."""
    tokenizer = tiny_model_tokenizer()
    ended = [f"{text}{tokenizer.eos_token}" for text in _WORDS]  # T5 classifies at the end token
    rows = tokenizer(ended, padding=True, return_tensors="pt", return_token_type_ids=False)
    inputs = {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}
    learned = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels = {
        Task.SEQUENCE_CLASSIFICATION.value: torch.tensor([0, 1, 2, 1]),
        Task.TOKEN_CLASSIFICATION.value: torch.where(learned == -100, -100, learned % len(LABELS)),
    }
    return inputs | {"labels": labels.get(task, learned)}


def adapted_model(base: Path, spec: LoRAJobSpec, **options: Any) -> Any:
    """Return the base with a fresh adapter, in float32."""
    model = load_base(base, torch.float32, spec, labels_of(spec), CPU)
    return add_adapter(model, spec, seed=1, **options)


def train(model: Any, task: str, steps: int = 3) -> list[float]:
    """Take optimizer steps, and return their losses. The model is left in evaluation mode."""
    model.train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.01)
    losses = []
    for _ in range(steps):
        loss = model(**batch(task)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def logits(model: Any, task: str) -> torch.Tensor:
    """Return the logits of the batch."""
    with torch.no_grad():
        found: torch.Tensor = model(**batch(task)).logits
    return found


def reload(base: Path, adapter: Path, spec: LoRAJobSpec, **settings: Any) -> Any:
    """Return what a user gets who knows only transformers and PEFT: a clean base with the published adapter."""
    labels = labels_of(spec)
    heads = {"num_labels": len(labels)} if labels else {}
    model = getattr(transformers, rules_of(spec).auto_model).from_pretrained(
        base, **{"dtype": torch.float32, **heads, **settings}
    )
    keep_packing(model)  # such small layers cannot be packed
    return peft.PeftModel.from_pretrained(model, adapter).eval()
