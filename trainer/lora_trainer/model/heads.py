"""The parts of a model that are new and therefore trained and saved whole: the head of a classification.

Found from the model, never by a list of names: whatever is not the base model itself, and whatever had no weights to
load. A new part that was not saved would be random again in whoever loads the adapter.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lora_api.training import Task

_ATTRIBUTE = "lora_new_modules"
_DENSE_HEADS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "distilbert", "electra", "t5", "mt5", "umt5"}
"""Families whose head for sequences has a layer as wide as the model before the one with the labels."""
_NEVER_POOLED = {"roberta", "xlm-roberta", "camembert"}
_INPUTS_FIRST = {"gpt2", "openai-gpt"}
_BIASED_HEADS = {"bert", "modernbert", "mpnet", "albert", "deberta-v2"} | _DENSE_HEADS


def whole_modules(model: Any) -> list[str]:
    """Return the paths of the new modules of a classification model, sorted."""
    base = getattr(model, model.base_model_prefix)
    head = [
        name for name, child in model.named_children() if child is not base and any(True for _ in child.parameters())
    ]
    return sorted({*head, *getattr(model, _ATTRIBUTE, ())})


def mark_new(model: Any, missing: Iterable[str]) -> None:
    """Remember the modules whose weights were missing from the files; `missing` are names of weights."""
    setattr(model, _ATTRIBUTE, sorted({name.rpartition(".")[0] for name in missing if not _in_head(model, name)}))


def may_be_new(model: Any, weight: str) -> bool:
    """Whether a weight of a classification model may be missing: of its head, or of the pooler under it."""
    return _in_head(model, weight) or ".pooler." in f".{weight}"


def head_parameters(config: Mapping[str, Any], task: Task, labels: int, layers: Mapping[str, Any]) -> int:
    """Return the number of weights in the new modules of a classification; 0 for other tasks.

    From the content of config.json and the paths of the layers alone, so that a preflight knows it.
    """
    if task not in (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION):
        return 0
    hidden = next(int(config[name]) for name in ("hidden_size", "d_model", "n_embd", "dim") if config.get(name))
    family, whole_sequence = str(config.get("model_type")), task is Task.SEQUENCE_CLASSIFICATION
    biased = not whole_sequence or family in _BIASED_HEADS
    square = hidden * hidden + hidden
    count = hidden * labels + (labels if biased else 0)
    if whole_sequence and family in _DENSE_HEADS:
        count += square
    if whole_sequence and family == "bert" and not any(path.endswith("pooler.dense") for path in layers):
        count += square
    return count


def task_layers(
    layers: Mapping[str, tuple[int, int]], config: Mapping[str, Any], task: Task
) -> dict[str, tuple[int, int]]:
    """Return the layers of the files that the model of a task keeps, outputs first.

    A tagger has neither pooler nor decoder, and GPT-2 stores its weights with the inputs first.
    """
    family = str(config.get("model_type"))
    dropped: tuple[str, ...] = ()
    if task is Task.TOKEN_CLASSIFICATION:
        dropped = ("pooler.dense", "decoder.")
    elif family in _NEVER_POOLED:
        dropped = ("pooler.dense",)
    kept = {path: shape for path, shape in layers.items() if not any(f".{name}" in f".{path}" for name in dropped)}
    return {path: (shape[1], shape[0]) for path, shape in kept.items()} if family in _INPUTS_FIRST else kept


def _in_head(model: Any, weight: str) -> bool:
    return not weight.startswith(f"{model.base_model_prefix}.")
