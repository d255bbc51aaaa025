"""Packed attention: rows end to end give what they give alone, and never see each other."""

import pytest
import torch
from torch.nn import functional

from lora_trainer.model import attention
from lora_trainer.model.attention import packed_inputs, use_packed_attention
from unit.trainer.model.tiny import WINDOW, documents, gradients, packed, padded, relative, tiny_model, with_adapter

LENGTHS = (3 * WINDOW + 1, 2, 9, 1, 17)
PACKABLE = [
    "llama",
    "llama tied",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma3",
    "granite",
    "cohere",
    "phi",
    "gpt neox",
    "gpt2",
    "qwen3 moe",
]


def loss_of(logits, rows):
    """Sum of the cross entropy of all tokens but the first ones; the logits are those of one row each."""
    losses = [
        functional.cross_entropy(each[: len(row) - 1].float(), row[1:], reduction="sum")
        for each, row in zip(logits, rows, strict=True)
    ]
    return torch.stack(losses).sum()


def loss_and_gradients(model, logits, rows):
    loss = loss_of(logits, rows)
    loss.backward()
    return loss.detach(), gradients(model)


def alone(model, rows):
    return [model(input_ids=row[None], use_cache=False).logits[0] for row in rows]


def together(model, rows):
    logits = model(**packed_inputs(packed(rows))).logits[0]
    return logits.split([len(row) for row in rows])


def switched(family, **changes):
    base = tiny_model(family, **changes)
    assert use_packed_attention(base)
    return with_adapter(base)


@pytest.mark.parametrize("family", PACKABLE)
def test_packed_is_alone_is_padded_in_loss_and_gradients(family):
    rows = documents(*LENGTHS)
    plain, model = with_adapter(tiny_model(family)), switched(family)
    loss, expected = loss_and_gradients(plain, alone(plain, rows), rows)
    ways = {
        "padded, not switched": (plain, plain(**padded(rows), use_cache=False).logits),
        "padded": (model, model(**padded(rows), use_cache=False).logits),
        "packed": (model, together(model, rows)),
    }
    for way, (which, logits) in ways.items():
        found, gradient = loss_and_gradients(which, logits, rows)
        assert relative(found, loss) < 1e-5, way
        assert relative(gradient, expected) < 1e-5, way


@pytest.mark.parametrize("family", [each for each in PACKABLE if each != "qwen3 moe"])
def test_a_document_is_bit_equal_whatever_lies_before_and_behind_it(family):
    model = switched(family).eval()
    first, second, third = documents(*LENGTHS[:3])
    before, after = documents(len(first), len(third), seed=1)
    with torch.no_grad():
        expected = together(model, [first, second, third])[1]
        found = together(model, [before, second, after])[1]
    assert torch.equal(found, expected)
    assert not torch.equal(before, first)


def test_documents_that_share_experts_differ_by_rounding_alone():
    """Experts multiply all their tokens at once, and how many these are decides the order of sums."""
    model = switched("qwen3 moe").eval()
    first, second, before = *documents(12, 12), documents(12, seed=1)[0]
    with torch.no_grad():
        assert relative(together(model, [before, second])[1], together(model, [first, second])[1]) < 1e-6


@pytest.mark.parametrize("family", ["gemma2", "gpt oss", "jamba", "t5"])
def test_models_that_cannot_be_packed_exactly_are_left_as_they_were(family):
    """Capped scores, sinks, state spaces that run through, two stacks."""
    model = tiny_model(family)
    before = model.config._attn_implementation
    assert not use_packed_attention(model)
    assert model.config._attn_implementation == before
    assert model.training


def test_without_boundaries_a_switched_model_refuses_rather_than_mixing_documents():
    model = switched("llama")
    rows = packed(documents(4, 5)).inputs
    with pytest.raises(NotImplementedError, match="where documents begin"):
        model(input_ids=rows["input_ids"], position_ids=rows["position_ids"], use_cache=False)


def test_positions_that_do_not_begin_again_are_found():
    class Counting(torch.nn.Embedding):
        def forward(self, positions):
            return super().forward(torch.arange(positions.shape[-1])[None])

    model = tiny_model("gpt2")
    model.transformer.wpe.__class__ = Counting
    assert not use_packed_attention(model)


def test_a_layer_that_leaks_is_found():
    class Leaking(torch.nn.Module):
        def forward(self, hidden):
            return hidden + 1e-3 * hidden.mean(dim=1, keepdim=True)

    model = tiny_model("llama")
    model.model.norm = Leaking()
    assert not use_packed_attention(model)


@pytest.mark.parametrize(("window", "length"), [(300, 700), (5, 600), (256, 512)])
def test_windows_of_long_documents_are_computed_in_blocks_without_a_mask_of_the_document(monkeypatch, window, length):
    query, key, value = (torch.randn(2, 3, length, 8, dtype=torch.float64) for _ in range(3))
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    mask = (distance >= 0) & (distance < window)
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    sizes, compute = [], functional.scaled_dot_product_attention

    def watched(*arguments, attn_mask, **options):
        sizes.append(attn_mask.numel())
        return compute(*arguments, attn_mask=attn_mask, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    found = attention._document(query, key, value, None, 0.0, window)
    assert torch.allclose(found, expected)
    assert max(sizes) <= max(window, 256) * 2 * max(window, 256)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
def test_no_mask_is_made_of_tokens_by_tokens(family, monkeypatch):
    model, shapes = switched(family), []
    monkeypatch.setattr(attention, "sdpa_mask", lambda **options: shapes.append(options))
    together(model, documents(*LENGTHS))
    assert not shapes


def reference_kernel(query, key, value, boundaries, keys, longest, longest_key, *, scale, window_size, enable_gqa):
    """What `varlen_attn` is documented to compute, [tokens, heads, size], in float32."""
    assert boundaries is keys
    assert longest == longest_key == int(torch.diff(boundaries).max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert window_size[1] == 0
    lengths = torch.diff(boundaries).tolist()
    parts = zip(*(each.transpose(0, 1).split(lengths, 1) for each in (query, key, value)), strict=True)
    outputs = []
    for q, k, v in parts:
        distance = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])[None]
        mask = (distance >= 0) & ((distance <= window_size[0]) if window_size[0] >= 0 else True)
        outputs.append(
            functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=enable_gqa)
        )
    return torch.cat(outputs, 1).transpose(0, 1)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2"])
def test_the_kernel_of_gpus_is_called_with_what_gives_the_same(family, monkeypatch):
    rows, model = documents(*LENGTHS), switched(family)
    expected = torch.cat(together(model, rows))
    monkeypatch.setattr(attention, "_has_kernel", lambda query, dropout: True)
    monkeypatch.setattr(attention, "varlen_attn", reference_kernel)
    assert relative(torch.cat(together(model, rows)), expected) < 1e-5


def test_in_bfloat16_packed_is_as_close_to_float32_as_alone():
    rows = documents(*LENGTHS)
    exact = torch.cat(alone(with_adapter(tiny_model("llama")), rows))
    plain = with_adapter(tiny_model("llama", torch.bfloat16))
    base = tiny_model("llama", torch.bfloat16)
    assert use_packed_attention(base)
    model = with_adapter(base)
    assert relative(torch.cat(together(model, rows)).float(), exact) < 1.5 * relative(
        torch.cat(alone(plain, rows)).float(), exact
    )
