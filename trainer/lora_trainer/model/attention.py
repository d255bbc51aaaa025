"""Packed attention: several documents in one sequence, none of which sees another, and no mask of tokens by tokens.

The documents are given by their boundaries. On GPUs one kernel of variable lengths computes them all; elsewhere they
are computed one after another. A model is switched only where that is exact, which is tried out and not assumed:
without the trial, a layer that mixes tokens by other means than attention would leak silently.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lora_trainer.model.arithmetic import product_dtype

NAME = "lora_packed"
"""Under which transformers knows this attention."""
_REFUSED = ("softcap", "s_aux", "position_bias", "cache")
"""Arguments that change the scores of attention in ways that the kernels here do not compute."""
_KERNEL_HEAD_SIZE = 256
_KERNEL_DTYPES = (torch.float16, torch.bfloat16)
_SMALLEST_BLOCK = 256


class PackedBatch(Protocol):
    """What a packed micro-batch has."""

    inputs: dict[str, torch.Tensor]
    """`input_ids` and `position_ids`, int64 [1, tokens], and `cu_seq_lens`, int32 [documents + 1]."""
    extra: dict[str, int]
    """`max_length`: tokens of the longest document."""


def packed_inputs(batch: PackedBatch) -> dict[str, Any]:
    """Return the arguments for the forward pass of a switched model."""
    return {
        "input_ids": batch.inputs["input_ids"],
        "position_ids": batch.inputs["position_ids"],
        "cu_seq_lens_q": batch.inputs["cu_seq_lens"],
        "max_length_q": batch.extra["max_length"],
        "use_cache": False,
    }


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a decoder to packed attention, and return True; or return False and leave it as it was.

    A switched model takes what `packed_inputs` returns, or a padded batch with its `attention_mask`.
    """
    if not _may_be_packed(model):
        return False
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _mask)
    before = model.config._attn_implementation  # noqa: SLF001 - transformers has no public reader of it
    model.set_attn_implementation(NAME)
    if _keeps_documents_apart(model):
        return True
    model.set_attn_implementation(before)
    return False


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention of packed documents, [1, tokens, heads, head size]; the signature is transformers'.

    `query` is [1, heads, tokens, head size]; `key` and `value` may have fewer heads.
    """
    if attention_mask is not None:
        settings = {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window, **others}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)  # type: ignore[return-value]
    _refuse_unknown(module, others)
    if cu_seq_lens_q is None or max_length_q is None:
        raise NotImplementedError("packed attention was not told where documents begin, and would mix them")
    if _has_kernel(query, dropout):
        window = -1 if sliding_window is None else sliding_window - 1
        output = _by_kernel(query, key, value, cu_seq_lens_q, max_length_q, scaling, window)
    else:
        lengths = torch.diff(cu_seq_lens_q).tolist()
        output = _one_by_one(query, key, value, lengths, scaling, dropout, sliding_window)
    return output, None


def _mask(q_length: int, kv_length: int, attention_mask: torch.Tensor | None = None, **others: Any) -> Any:
    """Return no mask for packed documents, and that of SDPA, never left out, for padded ones."""
    if attention_mask is None and q_length == kv_length:
        return None
    others |= {"allow_is_causal_skip": False}
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **others)


def _refuse_unknown(module: torch.nn.Module, others: Mapping[str, Any]) -> None:
    is_causal = others.get("is_causal")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    refused = [name for name in _REFUSED if others.get(name) is not None]
    if refused or not causal:
        raise NotImplementedError(f"packed attention does not compute {', '.join(refused) or 'both directions'}")


def _has_kernel(query: torch.Tensor, dropout: float) -> bool:
    fitting = query.dtype in _KERNEL_DTYPES and query.shape[-1] <= _KERNEL_HEAD_SIZE and query.shape[-1] % 8 == 0
    return query.is_cuda and fitting and dropout == 0.0


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int,
) -> torch.Tensor:
    """Return [1, tokens, heads, head size]. `window` is how many tokens back a token sees, -1 for all."""
    query, key, value = (each.transpose(1, 2)[0] for each in (query, key, value))
    output = varlen_attn(
        query,
        key,
        value,
        boundaries,
        boundaries,
        longest,
        longest,
        scale=scaling,
        window_size=(window, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output[None]  # type: ignore[index]


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: list[int],
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    """Return [1, tokens, heads, head size].

    Heads that share keys and values become the heads of one batch entry, which needs no copies of either.
    """
    dtype, (_, heads, tokens, _), groups = query.dtype, query.shape, key.shape[1]
    wide = product_dtype(query)
    query = query[0].to(wide).unflatten(0, (groups, heads // groups))
    key, value = (each[0].to(wide)[:, None].expand(-1, heads // groups, -1, -1) for each in (key, value))
    documents = zip(*(each.split(lengths, dim=2) for each in (query, key, value)), strict=True)
    parts = [_document(*document, scaling, dropout, window) for document in documents]
    return torch.cat(parts, dim=2).reshape(1, heads, tokens, value.shape[-1]).transpose(1, 2).to(dtype)


def _document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    """Return the attention of one document, [groups, heads of a group, tokens, head size]."""
    length = query.shape[2]
    settings = {"scale": scaling, "dropout_p": dropout}
    if window is None or length <= window:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, **settings)
    parts = []
    # Blocks of queries, each with the keys that it can see: the masks grow with the window, not with the document.
    size = max(window, _SMALLEST_BLOCK)
    for start in range(0, length, size):
        end, first = min(start + size, length), max(0, start - window + 1)
        distance = torch.arange(start, end)[:, None] - torch.arange(first, end)[None]
        mask = ((distance >= 0) & (distance < window)).to(query.device)
        block = query[:, :, start:end], key[:, :, first:end], value[:, :, first:end]
        parts.append(functional.scaled_dot_product_attention(*block, attn_mask=mask, **settings))
    return torch.cat(parts, dim=2)


def _may_be_packed(model: PreTrainedModel) -> bool:
    """Whether a trial is worth it: what a few tokens cannot show is asked of the model's class and config."""
    config = model.config.get_text_config()
    supported = model._supports_attention_backend and model._supports_sdpa  # noqa: SLF001 - their only names
    # Chunks of fixed length are made by a mask alone, and are longer than the trial's documents.
    return supported and not model.config.is_encoder_decoder and getattr(config, "attention_chunk_size", None) is None


@torch.no_grad()
def _keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Whether a document comes out the same behind another one as before a third one.

    So it shows where others are seen, and where positions are counted on from the document before.
    """
    size = model.config.get_text_config().vocab_size
    tried, first, last = ((start + step * torch.arange(8)) % size for start, step in ((5, 2), (3, 1), (7, 3)))
    tried = tried[:6]
    training = model.training
    model.eval()
    try:
        behind = _logits_of_two(model, first, tried)[len(first) :]
        before = _logits_of_two(model, tried, last)[: len(tried)]
    except (NotImplementedError, TypeError, ValueError):
        return False
    finally:
        model.train(training)
    # Rounding may differ where experts take tokens in groups; a leak is far larger.
    tolerance = 8 * torch.finfo(before.dtype).eps * float(before.abs().max())
    return torch.allclose(before, behind, rtol=0.0, atol=tolerance)


def _logits_of_two(model: PreTrainedModel, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    lengths = [len(first), len(second)]
    output = model(
        input_ids=torch.cat([first, second])[None].to(model.device),
        position_ids=torch.cat([torch.arange(each) for each in lengths])[None].to(model.device),
        cu_seq_lens_q=torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32, device=model.device),
        max_length_q=max(lengths),
        use_cache=False,
    )
    return output.logits[0]
