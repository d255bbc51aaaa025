"""Losses without all logits: the values and gradients of plain cross entropy, with a bounded memory."""

import copy

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from lora_trainer.model import arithmetic, output_layer
from lora_trainer.model.output_layer import install_output_layer, token_losses
from unit.trainer.model.tiny import VOCABULARY, documents, gradients, padded, relative, tiny_model, with_adapter

FAMILIES = ["llama", "llama tied", "gpt2", "gemma2", "gemma3", "gemma3 capped", "granite", "cohere", "t5", "qwen3 moe"]
LENGTHS = (9, 14, 3)


def batch(family):
    """The arguments of a forward pass, some positions, and what should follow them."""
    rows = padded(documents(*LENGTHS))
    shape = rows["input_ids"].shape
    if family == "t5":
        rows["decoder_input_ids"] = documents(*[11] * len(LENGTHS), seed=3)
        rows["decoder_input_ids"] = torch.stack(rows["decoder_input_ids"])
        shape = rows["decoder_input_ids"].shape
    where = torch.tensor([0, 1, 4, 12, 15, 20, 21, 22])
    assert where.max() < shape.numel()
    return {**rows, "use_cache": False}, where, torch.arange(len(where)) * 7 % VOCABULARY


def by_all_logits(model, inputs, where, targets, weights):
    logits = model(**inputs).logits.flatten(0, 1)[where].float()
    losses = functional.cross_entropy(logits, targets, reduction="none")
    (losses * weights).sum().backward()
    return losses.detach(), gradients(model), logits.argmax(-1) == targets


def by_token_losses(model, inputs, where, targets, weights):
    found = token_losses(model, inputs, where, targets, predictions=True)
    (found.losses * weights).sum().backward()
    return found.losses.detach(), gradients(model), found.hits


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(output_layer, "CHUNK", 3)


def installed(model):
    install_output_layer(model)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_all_logits(family):
    model = with_adapter(tiny_model(family))
    inputs, where, targets = batch(family)
    weights = torch.linspace(-1, 2, len(where))
    targets[0] = model(**inputs).logits.flatten(0, 1)[0].argmax()
    expected = by_all_logits(model, inputs, where, targets, weights)
    found = by_token_losses(installed(model), inputs, where, targets, weights)
    assert found[0].dtype is torch.float32
    assert relative(found[0], expected[0]) < 1e-6
    assert relative(found[1], expected[1]) < 1e-5
    assert torch.equal(found[2], expected[2])
    assert found[2][0]
    assert not model.get_base_model().forward.__self__._whole, "the model's way with logits is not known"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3 capped", "t5"])
def test_the_model_s_other_uses_stay_as_they_were(family):
    model = with_adapter(tiny_model(family)).eval()
    inputs, where, targets = batch(family)
    before = model(**inputs).logits
    token_losses(installed(model), inputs, where, targets)
    assert torch.equal(model(**inputs).logits, before)
    assert not any("_OutputLayer" in name or "layer." in name for name in model.state_dict() if "lm_head" in name)


@pytest.mark.parametrize("which", ["adapter", "whole"])
@pytest.mark.parametrize("family", ["llama", "gemma3 capped"])
def test_an_output_layer_that_is_trained_gets_its_gradients(family, which):
    changes = {"adapter": {"target_modules": ["q_proj", "lm_head"]}, "whole": {"modules_to_save": ["lm_head"]}}
    base = tiny_model(family, tie_word_embeddings=False)
    model = with_adapter(base, **changes[which])
    trained = [name for name, each in model.named_parameters() if each.requires_grad and "lm_head" in name]
    assert trained
    inputs, where, targets = batch(family)
    weights = torch.linspace(-1, 2, len(where))
    expected = by_all_logits(model, inputs, where, targets, weights)
    found = by_token_losses(installed(model), inputs, where, targets, weights)
    assert relative(found[0], expected[0]) < 1e-6
    assert relative(found[1], expected[1]) < 1e-5


def test_a_model_that_does_something_unknown_to_its_logits_is_given_all_of_them(monkeypatch):
    base = tiny_model("llama")
    usual = base.forward

    def unusual(*arguments, **options):
        output = usual(*arguments, **options)
        output.logits = output.logits + 0.5 * output.logits.sin()
        return output

    base.forward = unusual
    model = with_adapter(base)
    inputs, where, targets = batch("llama")
    weights = torch.ones(len(where))
    expected = by_all_logits(model, inputs, where, targets, weights)
    installed(model)
    for _ in range(2):
        found = by_token_losses(model, inputs, where, targets, weights)
        assert relative(found[0], expected[0]) < 1e-6
        assert relative(found[1], expected[1]) < 1e-5


@pytest.mark.parametrize("native", [True, False], ids=["native products", "widened products"])
@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_it_is_as_close_to_float32_as_all_logits_are(native, autocast, monkeypatch):
    monkeypatch.setattr(arithmetic, "cpu_has_bfloat16", lambda: native)
    inputs, where, targets = batch("llama")
    weights = torch.ones(len(where))
    model = with_adapter(tiny_model("llama", torch.bfloat16))
    exact = by_all_logits(copy.deepcopy(model).float(), inputs, where, targets, weights)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        reference = by_all_logits(model, inputs, where, targets, weights)
        found = by_token_losses(installed(model), inputs, where, targets, weights)
    for place in (0, 1):
        assert relative(found[place], exact[place]) < 1.2 * relative(reference[place], exact[place])


def test_a_bias_of_the_output_layer_counts():
    model = with_adapter(tiny_model("phi"))
    torch.nn.init.normal_(model.get_output_embeddings().bias)
    inputs, where, targets = batch("phi")
    weights = torch.ones(len(where))
    expected = by_all_logits(model, inputs, where, targets, weights)
    found = by_token_losses(installed(model), inputs, where, targets, weights)
    assert relative(found[0], expected[0]) < 1e-6
    assert relative(found[1], expected[1]) < 1e-5


@pytest.mark.parametrize("changes", [{}, {"modules_to_save": ["lm_head"]}], ids=["frozen", "trained"])
def test_where_nothing_is_learned_the_gradients_are_zeros_and_not_missing(changes):
    """Ranks that have run out of rows must take part in what others wait for."""
    model = installed(with_adapter(tiny_model("llama"), **changes))
    inputs, _, _ = batch("llama")
    nothing = torch.zeros(0, dtype=torch.long)
    losses, gradient, hits = by_token_losses(model, inputs, nothing, nothing, torch.zeros(0))
    assert len(losses) == len(hits) == 0
    assert gradient.numel() == sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert not gradient.any()


def test_without_gradients_none_are_prepared():
    model = installed(with_adapter(tiny_model("llama")))
    inputs, where, targets = batch("llama")
    expected = token_losses(model, inputs, where, targets)
    with torch.no_grad(), model.disable_adapter():
        reference = token_losses(model, inputs, where, targets)
    assert not reference.losses.requires_grad
    assert reference.hits is None
    assert relative(reference.losses, expected.losses.detach()) > 1e-2


class Sizes(TorchDispatchMode):
    """Notes the largest tensor of vocabulary width that is made, in rows."""

    rows = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(each, torch.Tensor) and each.dim() > 1 and each.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, each.numel() // VOCABULARY)
        return result


@pytest.mark.parametrize("changes", [{}, {"modules_to_save": ["lm_head"]}], ids=["frozen", "trained"])
def test_no_logits_of_more_than_a_chunk_are_ever_made(changes):
    model = installed(with_adapter(tiny_model("llama", hidden_size=8, head_dim=8), **changes))
    rows = documents(40, 33)
    where, targets = torch.arange(70), torch.arange(70) % VOCABULARY
    with Sizes() as sizes:
        token_losses(
            model, padded(rows) | {"use_cache": False}, where, targets, predictions=True
        ).losses.sum().backward()
    # The weight of the output layer, transposed, and its gradient are of that width too: one row a hidden value.
    assert 3 <= sizes.rows <= 8
    with Sizes() as sizes:
        model(**padded(rows), use_cache=False)
    assert sizes.rows == 80


def test_a_model_without_an_output_layer_is_left_alone():
    model = tiny_model("llama").model
    install_output_layer(model)
    assert "forward" not in vars(model)
