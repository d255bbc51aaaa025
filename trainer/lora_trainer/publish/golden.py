"""Golden samples: what base and adapter say after a few sentences of ours, written into the manifest.

An engine that serves the adapter rightly says nearly the same, so a wrong scale, a wrong base, or an adapter that is
not applied is seen before anybody asks it. The sentences are no user's data. The samples decide nothing about the
adapter and are not in its digest; whatever goes wrong here costs the samples and never the publication. The model is
left as it was, and no random number is drawn.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lora_api.artifacts import GoldenSample
from lora_trainer.logs import log, warn
from lora_trainer.model.adapter import initial_state

PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "The three primary colours are red, yellow and",
    "In the morning she opened the window, because",
    "A good recipe for bread begins with flour, salt and",
    "Dear Sir or Madam, thank you for your letter. We",
)
"""Never changed without need: adapters are compared by them."""
MAX_TOKENS = 32
TOP = 8
"""Likeliest tokens of each side; the samples hold all that are among them on either side."""
_DIGITS = 6


class _UnfitError(Exception):
    """Why this model gives no samples."""


def golden_samples(model: Any, tokenizer: Any) -> list[GoldenSample]:
    """Return one sample a prompt, of a causal language model with its adapter in place.

    Empty, with a word in the log, where the model cannot be asked: in parts on several devices, or it fails. To be
    called by one process alone.
    """
    training = model.training
    try:
        samples = _samples(model, tokenizer)
    except _UnfitError as reason:
        log("no samples in the manifest", reason=str(reason))
        return []
    except Exception as error:  # the adapter is trained and saved: nothing here is worth losing it
        warn("no samples in the manifest: the model failed on one of them", error=type(error).__name__)
        return []
    finally:
        model.train(training)
    log("samples taken", count=len(samples))
    return samples


def _samples(model: Any, tokenizer: Any) -> list[GoldenSample]:
    if any(isinstance(each, DTensor) for each in model.parameters()):
        raise _UnfitError("the base model is divided over several devices")
    prompts = [prompt for text in PROMPTS if (prompt := tokenizer(text)["input_ids"][:MAX_TOKENS])]
    model.eval()
    with torch.no_grad():
        adapted = [_next(model, prompt) for prompt in prompts]
        with _clean_base(model):
            plain = [_next(model, prompt) for prompt in prompts]
    return [_sample(*each) for each in zip(prompts, plain, adapted, strict=True)]


def _next(model: Any, prompt: list[int]) -> Tensor:
    """Return the log-probabilities of the token after a prompt, float32 on the CPU."""
    tokens = torch.tensor([prompt], device=next(model.parameters()).device)
    # With a mask, although nothing is padded: attention of packed rows takes a row without one for several.
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
    return torch.log_softmax(logits[0, -1].float(), dim=-1).cpu()


def _sample(prompt: list[int], plain: Tensor, adapted: Tensor) -> GoldenSample:
    top = min(TOP, len(plain))
    tokens = sorted({token for side in (plain, adapted) for token in side.topk(top).indices.tolist()})
    return GoldenSample(prompt_tokens=prompt, base=_chosen(plain, tokens), adapter=_chosen(adapted, tokens))


def _chosen(side: Tensor, tokens: list[int]) -> dict[str, float]:
    values = {str(token): round(float(side[token]), _DIGITS) for token in tokens}
    if not all(map(math.isfinite, values.values())):
        raise _UnfitError("the model says NaN or infinity")
    return values


@contextmanager
def _clean_base(model: Any) -> Iterator[None]:
    """Let the model compute what the published base does, without any adapter.

    Where the adapter took factors out of the base at its start, the base in memory is not the published one; with those
    factors in the adapter both together are.
    """
    initial = initial_state(model)
    if not initial:
        with model.disable_adapter():
            yield
        return
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if trained.keys() != initial.keys():
        raise _UnfitError("more is trained than the factors that were taken out of the base")
    learned = {name: value.clone() for name, value in trained.items()}
    try:
        _put(trained, initial)
        yield
    finally:
        _put(trained, learned)


def _put(parameters: dict[str, Any], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
