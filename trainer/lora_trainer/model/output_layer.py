"""Losses of the learned tokens, without the logits of all tokens.

The output layer of a language model is asked for losses instead of logits: of the learned positions only, and of so
many at a time that their logits stay small. It happens within the model's forward pass, where wrappers that gather
sharded weights expect it, and the losses leave the model as its output, through which their hooks are set.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from lora_trainer.logs import warn
from lora_trainer.model.arithmetic import product_dtype

CHUNK = 1024
"""Positions whose logits are in memory at once."""
_RAMP = 50.0
_Pair = tuple[torch.Tensor, torch.Tensor]


class TokenLosses(NamedTuple):
    """What the model makes of the learned positions."""

    losses: torch.Tensor
    """float32 [n], differentiable."""
    hits: torch.Tensor | None
    """bool [n]: whether the target is the likeliest token; None if it was not asked for."""


class _Asked(NamedTuple):
    where: torch.Tensor
    targets: torch.Tensor
    predictions: bool


def install_output_layer(model: Any) -> None:
    """Make a language model, with its adapter, answer `token_losses`. A model without an output layer is left as it is.

    All other uses of the model stay as they were.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    if head is not None:
        layer = _OutputLayer(base, head)
        base.forward, head.forward = layer.forward, layer.head_forward


def token_losses(
    model: Any, forward_inputs: dict[str, Any], where: torch.Tensor, targets: torch.Tensor, *, predictions: bool = False
) -> TokenLosses:
    """Return the cross entropy at some positions of a model that `install_output_layer` has seen; it may be wrapped.

    `where` is int64 [n]: flat positions in the (decoder's) hidden states [batch * length]. `targets` is int64 [n]: the
    token that should follow each.
    """
    answer = model(**forward_inputs, learned=_Asked(where, targets, predictions))
    return TokenLosses(*answer)  # wrappers may have built the tuple anew


class _Shape(NamedTuple):
    """What models do to the logits of their output layer: `cap * tanh(scale * logits / cap)`, or only the scale."""

    scale: float = 1.0
    cap: float | None = None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the final logits. The argument is overwritten unless it needs a gradient."""
        scaled = logits if self.scale == 1.0 else logits * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap

    def slope(self, final: torch.Tensor) -> torch.Tensor | float:
        """Return the derivative where `apply` gave `final`."""
        return self.scale if self.cap is None else (1 - (final / self.cap) ** 2) * self.scale


class _OutputLayer:
    """The two forward passes, of base model and output layer, that work hand in hand."""

    def __init__(self, base: PreTrainedModel, head: torch.nn.Module) -> None:
        self._head = head
        self._whole_forward: Callable[..., Any] = base.forward
        self._logits: Callable[..., torch.Tensor] = head.forward
        self._shape = _shape_of(base)
        self._whole = False
        """Whether all logits are made after all: the model does something to them that is not known here."""
        self._checked = False
        self._asked: _Asked | None = None
        self._answer: _Pair | None = None

    def forward(self, *arguments: Any, learned: _Asked | None = None, **options: Any) -> Any:
        """Run the base model; for `learned` positions, return a `TokenLosses` in place of its output."""
        if learned is None:
            return self._whole_forward(*arguments, **options)
        if not self._whole:
            losses, hits, final = self._ask(learned, arguments, options)
            if self._checked or self._is_known(final):
                return TokenLosses(losses, hits if learned.predictions else None)
        losses, hits = self._from_all_logits(learned, arguments, options)
        return TokenLosses(losses, hits if learned.predictions else None)

    def head_forward(self, hidden: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        """Return logits; or, when losses are asked for, keep these and return a ramp for the model to go on with."""
        if self._asked is None:
            return self._logits(hidden, *arguments, **options)
        rows = hidden.flatten(0, -2).index_select(0, self._asked.where)
        self._answer = self._losses(rows, self._asked.targets)
        return _ramp(self._vocabulary, hidden.device)

    def _ask(self, learned: _Asked, arguments: Any, options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self._asked = learned
        try:
            final = self._whole_forward(*arguments, **options).logits
            assert self._answer is not None  # noqa: S101 - the model has called its output layer
            return (*self._answer, final)
        finally:
            self._asked = self._answer = None

    def _is_known(self, final: torch.Tensor) -> bool:
        """Whether the model made of the ramp what is expected. Looked at once, as the host waits for the device."""
        expected = self._shape.apply(_ramp(self._vocabulary, final.device))
        self._checked = final.shape == expected.shape and torch.allclose(final.float(), expected, rtol=1e-4, atol=1e-4)
        self._whole = not self._checked
        if self._whole:
            warn("all logits are computed: what this model does to its logits is not known")
        return self._checked

    def _from_all_logits(self, learned: _Asked, arguments: Any, options: Any) -> _Pair:
        logits = self._whole_forward(*arguments, **options).logits
        chosen = logits.flatten(0, -2).index_select(0, learned.where).float()
        return functional.cross_entropy(chosen, learned.targets, reduction="none"), chosen.argmax(-1) == learned.targets

    @property
    def _vocabulary(self) -> int:
        return int(self._head.weight.shape[0])  # type: ignore[union-attr, index]

    def _losses(self, rows: torch.Tensor, targets: torch.Tensor) -> _Pair:
        head = self._head
        if type(head) is torch.nn.Linear and not any(each.requires_grad for each in head.parameters()):
            return _FrozenHead.apply(rows.to(head.weight.dtype), head.weight, head.bias, targets, self._shape)  # type: ignore[no-any-return, no-untyped-call]
        return self._losses_of_trained(rows, targets)

    def _losses_of_trained(self, rows: torch.Tensor, targets: torch.Tensor) -> _Pair:
        """Recompute each chunk in the backward pass, by whatever way the layer has to compute its logits."""
        answers = [
            checkpoint(self._chunk, rows[part], targets[part], use_reentrant=False) for part in _chunks(len(targets))
        ]
        losses, hits = zip(*answers, strict=True)
        return torch.cat(losses), torch.cat(hits)

    def _chunk(self, rows: torch.Tensor, targets: torch.Tensor) -> _Pair:
        final = self._shape.apply(self._logits(rows).float())
        return functional.cross_entropy(final, targets, reduction="none"), final.argmax(-1) == targets


class _FrozenHead(torch.autograd.Function):
    """Losses of a frozen output layer, and the gradient of each with respect to its row, in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        shape: _Shape,
    ) -> _Pair:
        wide = product_dtype(rows)
        losses = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
        hits = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
        slopes = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        with torch.autocast(rows.device.type, enabled=False):
            weight, bias = weight.to(wide), None if bias is None else bias.to(wide)
            for part in _chunks(len(rows)):
                final = shape.apply(functional.linear(rows[part].to(wide), weight, bias).float())
                losses[part], hits[part], gradient = _cross_entropy(final, targets[part], shape)
                if slopes is not None:
                    slopes[part] = gradient.to(wide) @ weight
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    def backward(ctx: Any, to_losses: torch.Tensor, _hits: Any) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (slopes,) = ctx.saved_tensors
        return (slopes * to_losses[:, None]).to(slopes.dtype), None, None, None, None


def _cross_entropy(
    final: torch.Tensor, targets: torch.Tensor, shape: _Shape
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return losses, hits, and the gradient with respect to the logits before `shape`.

    The gradient takes the place of `final`: one large tensor, or two where logits are capped. Library functions make
    several.
    """
    column = targets[:, None]
    right = final.gather(1, column)[:, 0]
    top, likeliest = final.max(-1)
    slope = shape.slope(final)
    exponents = final.sub_(top[:, None]).exp_()
    total = exponents.sum(-1)
    gradient = exponents.div_(total[:, None])
    gradient.scatter_add_(1, column, gradient.new_full((len(targets), 1), -1.0))
    if not isinstance(slope, float) or slope != 1.0:
        gradient.mul_(slope)
    return total.log() + top - right, likeliest == targets, gradient


def _chunks(count: int) -> Iterator[slice]:
    """Yield slices that cover all; of nothing, one that is empty, so that its gradients are zeros and not missing."""
    for start in range(0, max(count, 1), CHUNK):
        yield slice(start, start + CHUNK)


def _ramp(vocabulary: int, device: torch.device) -> torch.Tensor:
    return torch.linspace(-_RAMP, _RAMP, vocabulary, device=device)[None, None]


def _shape_of(base: PreTrainedModel) -> _Shape:
    """Return what the config says that is done to logits; whether it is true shows when the model is asked."""
    config = base.config.get_text_config(decoder=True)
    cap = getattr(config, "final_logit_softcapping", None)
    divisor = getattr(config, "logits_scaling", None)
    scale = getattr(config, "logit_scale", None)
    return _Shape(float(scale or 1.0) / float(divisor or 1.0), float(cap) if cap else None)
