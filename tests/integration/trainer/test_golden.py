"""Golden samples say what anybody computes with a clean base and the published adapter, and cost nothing else."""

import logging

import bitsandbytes
import pytest
import torch
from torch import distributed
from transformers import BitsAndBytesConfig

from lora_api.messages import Plan
from lora_trainer.model.adapter import trainable_state
from lora_trainer.model.build import build_model
from lora_trainer.model.sharding import shard
from lora_trainer.publish.adapter import save_adapter
from lora_trainer.publish.golden import MAX_TOKENS, PROMPTS, TOP, golden_samples
from lora_trainer.ranks import Ranks
from support.tiny_models import save_tiny_model, tiny_model_tokenizer
from support.training_loop import CPU, job_spec, reload, train

PLAN = Plan(micro_batch_size=1, accumulation_steps=1, max_length=64, total_steps=3, packing=True)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """Return the folder of a family's model, made once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = save_tiny_model(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


def trained_model(base, spec):
    """Return a model as the trainer builds it, after a few steps."""
    model, _ = build_model(base, spec, [], PLAN, torch.float32, CPU, Ranks())
    train(model, "CausalLM")
    return model


def log_probabilities(model, prompt):
    with torch.no_grad():
        return model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)


def assert_says(samples, side, model):
    """Check one side of all samples against a model."""
    for sample in samples:
        expected = log_probabilities(model, sample.prompt_tokens)
        said = getattr(sample, side)
        tokens = [int(token) for token in said]
        torch.testing.assert_close(torch.tensor(list(said.values())), expected[tokens], atol=2e-5, rtol=1e-4)
        assert {str(token) for token in expected.topk(TOP).indices.tolist()} <= said.keys()


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        ("llama", {}),
        ("llama", {"rsLoRA": True, "rankPattern": {"q_proj": 2}}),
        ("llama", {"doRA": True}),
        ("llama", {"dropout": 0.2}),
        ("llama", {"initialization": "PiSSA"}),
        ("llama", {"initialization": "OLoRA", "rsLoRA": True}),
        ("gemma2", {}),
        ("gpt2", {}),
        ("qwen3_moe", {}),
    ],
)
def test_samples_describe_the_clean_base_and_the_published_adapter(base_of, tmp_path, family, lora):
    spec = job_spec(lora={"rank": 4, "alpha": 8} | lora)
    model = trained_model(base_of(family), spec)
    save_adapter(model, tmp_path, "hf://owner/tiny", "0123abc")
    samples = golden_samples(model, tiny_model_tokenizer())

    assert len(samples) == len(PROMPTS)
    reloaded = reload(base_of(family), tmp_path, spec)
    assert_says(samples, "adapter", reloaded)
    with reloaded.disable_adapter():
        assert_says(samples, "base", reloaded)
    assert any(each.base != each.adapter for each in samples)


def bits_and_bytes(quantization):
    if quantization.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.type,
        bnb_4bit_use_double_quant=quantization.double_quantization,
        bnb_4bit_compute_dtype=torch.float32,
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_samples_of_a_quantized_base_are_those_of_the_model_that_was_trained(base_of, tmp_path, monkeypatch, bits):
    # On CPUs with these instructions the library packs weights anew, which needs wider layers than tiny ones.
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    spec = job_spec(quantization={"bits": bits})
    model = trained_model(base_of("llama"), spec)
    save_adapter(model, tmp_path, "hf://owner/tiny", "0123abc")
    samples = golden_samples(model, tiny_model_tokenizer())
    assert len(samples) == len(PROMPTS)
    settings = {"quantization_config": bits_and_bytes(spec.quantization), "device_map": {"": "cpu"}}
    reloaded = reload(base_of("llama"), tmp_path, spec, **settings)
    assert_says(samples, "adapter", reloaded)
    with reloaded.disable_adapter():
        assert_says(samples, "base", reloaded)


def test_both_sides_hold_the_likeliest_tokens_of_both(base_of):
    samples = golden_samples(trained_model(base_of("llama"), job_spec()), tiny_model_tokenizer())
    for sample in samples:
        assert sample.base.keys() == sample.adapter.keys()
        assert TOP <= len(sample.base) <= 2 * TOP
        assert max(*sample.base.values(), *sample.adapter.values()) < 0


def test_prompts_are_what_the_tokenizer_makes_of_them_and_not_longer_than_allowed(base_of):
    tokenizer = tiny_model_tokenizer()

    def begins_and_ends(text):
        return {"input_ids": [1, *tokenizer(text)["input_ids"] * 9, 2]}

    model = trained_model(base_of("llama"), job_spec())
    plain = golden_samples(model, tokenizer)
    assert [each.prompt_tokens for each in plain] == [tokenizer(text)["input_ids"][:MAX_TOKENS] for text in PROMPTS]
    long = golden_samples(model, begins_and_ends)
    assert {(len(each.prompt_tokens), each.prompt_tokens[0]) for each in long} == {(MAX_TOKENS, 1)}


def state_of(model):
    """Return all that a publication could change and must not."""
    return {
        "weights": trainable_state(model),
        "trained": {name: each.requires_grad for name, each in model.named_parameters()},
        "modes": {name: each.training for name, each in model.named_modules()},
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    torch.testing.assert_close(after["weights"], before["weights"], atol=0, rtol=0)
    torch.testing.assert_close(after["random"], before["random"], atol=0, rtol=0)
    assert (after["trained"], after["modes"]) == (before["trained"], before["modes"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lora", [{"dropout": 0.2}, {"initialization": "PiSSA"}])
def test_the_model_is_left_as_it_was_and_the_samples_are_the_same_again(base_of, lora, training):
    model = trained_model(base_of("llama"), job_spec(lora={"rank": 4} | lora))
    model.train(training)
    before = state_of(model)
    first = golden_samples(model, tiny_model_tokenizer())
    assert_same(before, state_of(model))
    assert golden_samples(model, tiny_model_tokenizer()) == first != []


@pytest.mark.parametrize("call", [0, len(PROMPTS) + 1], ids=["with the adapter", "without it"])
@pytest.mark.parametrize("lora", [{}, {"initialization": "PiSSA"}])
def test_a_failure_costs_the_samples_alone(base_of, monkeypatch, caplog, lora, call):
    model = trained_model(base_of("llama"), job_spec(lora={"rank": 4} | lora))
    model.train()
    before, calls = state_of(model), iter(range(100))
    layer = model.get_base_model().model.layers[0].mlp
    forward = layer.forward

    def fail(x):
        if next(calls) == call:
            raise torch.OutOfMemoryError("of a prompt")
        return forward(x)

    monkeypatch.setattr(layer, "forward", fail)
    with caplog.at_level(logging.WARNING, "lora_trainer"):
        assert golden_samples(model, tiny_model_tokenizer()) == []
    warned = [each.fields for each in caplog.records if each.levelno == logging.WARNING]
    assert warned == [{"error": "OutOfMemoryError"}]
    assert_same(before, state_of(model))


def test_a_model_that_says_nan_gives_no_samples(base_of):
    model = trained_model(base_of("llama"), job_spec())
    with torch.no_grad():
        model.get_base_model().lm_head.weight[0, 0] = torch.nan
    assert golden_samples(model, tiny_model_tokenizer()) == []


def test_more_than_the_factors_of_the_base_is_trained(base_of, caplog):
    spec = job_spec(lora={"rank": 4, "initialization": "PiSSA", "modulesToSave": ["embed_tokens"]})
    model = trained_model(base_of("llama"), spec)
    with caplog.at_level(logging.INFO, "lora_trainer"):
        assert golden_samples(model, tiny_model_tokenizer()) == []
    assert "more is trained" in caplog.records[-1].fields["reason"]


@pytest.fixture
def one_rank(tmp_path):
    """A group of one process, in which a model can be divided."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_a_divided_model_is_not_asked(base_of, caplog):
    """One rank alone would wait for ever for the parts of the others."""
    model = trained_model(base_of("llama"), job_spec())
    shard(model, "cpu")
    with caplog.at_level(logging.INFO, "lora_trainer"):
        assert golden_samples(model, tiny_model_tokenizer()) == []
    assert "divided over several devices" in caplog.records[-1].fields["reason"]
