"""The fused LoRA linear: PEFT's numbers, forward and backward, wherever PEFT's layer may be used."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from lora_trainer.model import arithmetic, fused
from lora_trainer.model.fused import fuse_lora
from unit.trainer.model.tiny import documents, gradients, padded, relative, tiny_model, with_adapter

BFLOAT16 = torch.bfloat16


class Block(nn.Module):
    """Two linear layers that share an input, one of them GPT-2's kind, and one on top."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.top = nn.Linear(24, 40), Conv1D(40, 24), nn.Linear(40, 16, bias=False)

    def forward(self, x):
        return self.top(torch.tanh(self.left(x)) * self.right(x))


def adapted(dtype=torch.float32, **changes):
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["left", "right", "top"]} | changes)
    block = Block()
    nn.init.normal_(block.right.weight, std=0.2)
    nn.init.normal_(block.right.bias)
    model = get_peft_model(block.to(dtype), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return model


def outputs(model, x, **autocast):
    """Output, gradient of the input, and gradients of the adapter."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", **autocast) if autocast else torch.autocast("cpu", enabled=False):
        result = model(x)
    (result.float() ** 2).sum().backward()
    return result.detach(), x.grad, gradients(model)


def both(model):
    plain = copy.deepcopy(model)
    fused_layers = fuse_lora(model)
    return plain, model, fused_layers


def test_every_plain_layer_is_fused_with_equal_numbers_in_float32():
    plain, model, count = both(adapted())
    assert count == 3
    x = torch.randn(2, 5, 24)
    for expected, found in zip(outputs(plain, x), outputs(model, x), strict=True):
        assert relative(found, expected) < 1e-6


def test_without_rows_the_gradients_are_zero_and_not_missing():
    _, model, _ = both(adapted())
    result, _, gradient = outputs(model, torch.randn(0, 24))
    assert result.shape == (0, 16)
    assert len(gradient)
    assert not gradient.any()


@pytest.mark.parametrize("native", [True, False], ids=["native products", "widened products"])
@pytest.mark.parametrize("autocast", [{}, {"dtype": BFLOAT16}], ids=["plain", "autocast"])
def test_in_bfloat16_it_is_as_close_to_float64_as_peft_is(native, autocast, monkeypatch):
    monkeypatch.setattr(arithmetic, "cpu_has_bfloat16", lambda: native)
    plain, model, _ = both(adapted(BFLOAT16))
    exact = copy.deepcopy(plain).double()
    x = torch.randn(64, 24, dtype=BFLOAT16)
    true = outputs(exact, x.double())
    by_peft, by_us = outputs(plain, x, dtype=BFLOAT16), outputs(model, x, **autocast)
    for value, reference, found in zip(true, by_peft, by_us, strict=True):
        spread = (found.double() - value).square().mean().sqrt()
        allowed = (reference.double() - value).square().mean().sqrt()
        assert spread < 1.1 * allowed
    assert by_us[0].dtype is BFLOAT16
    assert by_us[1].dtype is BFLOAT16


def test_the_adapter_and_its_gradients_stay_float32():
    model = adapted(BFLOAT16)
    fuse_lora(model)
    model(torch.randn(3, 24, dtype=BFLOAT16)).sum().backward()
    trained = [each for each in model.parameters() if each.requires_grad]
    assert len(trained) == 6
    assert {each.dtype for each in trained} | {each.grad.dtype for each in trained} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"lora_dropout": 0.1}, 0),
        ({"use_dora": True, "target_modules": ["left", "top"]}, 0),
        ({"bias": "lora_only"}, 1),  # the layer without a bias of its own
        ({"lora_bias": True, "target_modules": ["left"]}, 0),
        ({"use_rslora": True}, 3),
        ({"rank_pattern": {"left": 2}, "alpha_pattern": {"left": 1}}, 3),
    ],
)
def test_what_is_not_plain_is_left_to_peft(changes, layers):
    plain, model, count = both(adapted(**changes))
    assert count == layers
    x = torch.randn(6, 24)
    if "lora_dropout" not in changes:
        assert relative(model(x), plain(x)) < 1e-6


def test_a_second_adapter_is_peft_s_business():
    model = adapted()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["left"]))
    assert fuse_lora(model) == 2


def test_switched_off_the_adapter_takes_no_part():
    base = Block()
    plain, model, _ = both(adapted())
    x = torch.randn(5, 24)
    with plain.disable_adapter(), model.disable_adapter():
        assert torch.equal(model(x), plain(x))
        assert not model(x).requires_grad
    assert relative(model(x), plain(x)) < 1e-6
    assert not torch.allclose(model(x), base(x))


def test_merged_it_gives_the_same_and_unmerged_again():
    _, model, _ = both(adapted())
    x = torch.randn(5, 24)
    expected = model(x)
    model.merge_adapter()
    assert torch.allclose(model(x), expected, atol=1e-5)
    model.unmerge_adapter()
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert torch.allclose(model.merge_and_unload()(x), expected, atol=1e-5)


def test_a_copy_computes_with_its_own_weights():
    model = adapted()
    fuse_lora(model)
    twin, x = copy.deepcopy(model), torch.randn(5, 24)
    expected = model(x)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(x), expected)
    assert not twin(x).any()


def test_for_the_backward_pass_it_keeps_the_input_and_its_projection_alone():
    model, kept = adapted(BFLOAT16), []
    fuse_lora(model)
    layer = model.base_model.model.left
    x = torch.randn(100, 24, dtype=BFLOAT16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        layer(x)
    weights = {each.untyped_storage().data_ptr() for each in layer.parameters()}
    others = [each for each in kept if each.untyped_storage().data_ptr() not in weights]
    assert sorted(tuple(each.shape) for each in others) == [(100, 4), (100, 24)]
    assert any(each is x for each in others)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_whole_models_have_peft_s_gradients_with_and_without_recomputation(family):
    rows = padded(documents(9, 4))
    if family == "t5":
        rows["decoder_input_ids"] = rows["input_ids"]
    plain, model, count = both(with_adapter(tiny_model(family)))
    assert count
    found = []
    for each in (plain, model):
        each(**rows, use_cache=False).logits.square().mean().backward()
        found.append(gradients(each))
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    model(**rows, use_cache=False).logits.square().mean().backward()
    assert relative(found[1], found[0]) < 1e-5
    assert relative(gradients(model), found[1]) < 1e-6


def test_it_may_be_recomputed():
    model, x = adapted(), torch.randn(5, 24)
    fuse_lora(model)
    expected = outputs(model, x)[2]
    checkpoint(model, x, use_reentrant=False).square().sum().backward()
    assert relative(gradients(model), expected) < 1e-6


def test_a_base_layer_of_another_kind_is_computed_by_itself(monkeypatch):
    class Quantized(nn.Linear):
        """Stands for layers whose weight is no matrix of numbers."""

    model = adapted()
    plain = copy.deepcopy(model)
    for name in ("left", "top"):
        layer = getattr(model.base_model.model, name)
        layer.base_layer.__class__ = Quantized
    assert fuse_lora(model) == 3
    monkeypatch.setattr(fused._FusedLinear, "apply", None)
    x = torch.randn(5, 24, requires_grad=True)
    left, expected = model.base_model.model.left, plain.base_model.model.left
    left(x).square().sum().backward()
    found, x.grad = (x.grad, left.lora_A["default"].weight.grad), None
    expected(x).square().sum().backward()
    assert relative(found[0], x.grad) < 1e-6
    assert relative(found[1], expected.lora_A["default"].weight.grad) < 1e-6
