"""Every family with every task that fits it: trained, published, and loaded again by plain PEFT to the same logits."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lora_trainer.model.shape import adapter_shape
from lora_trainer.publish.adapter import save_adapter
from lora_trainer.publish.publication import ADAPTER_WEIGHTS
from lora_trainer.publish.size import adapter_bytes
from support.tiny_models import CAUSAL, ENCODERS, SEQ2SEQ, save_tiny_model
from support.training_loop import adapted_model, batch, job_spec, labels_of, logits, reload, train

URI, REVISION = "hf://owner/tiny", "0123abc"
CLASSIFIED = [*CAUSAL, *ENCODERS, *SEQ2SEQ]
NO_TAGGERS = ("gemma3",)  # transformers has no such model
CASES = [
    *((family, "CausalLM") for family in [*CAUSAL, "qwen3_moe"]),
    *((family, "SequenceClassification") for family in CLASSIFIED),
    *((family, "TokenClassification") for family in CLASSIFIED if family not in NO_TAGGERS),
    *((family, "Seq2SeqLM") for family in SEQ2SEQ),
]


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """Return the folder of a family's model, made once."""
    made = {}

    def get(family: str, **options):
        key = (family, *options.values())
        if key not in made:
            made[key] = save_tiny_model(family, tmp_path_factory.mktemp(family), **options)
        return made[key]

    return get


@pytest.mark.parametrize(("family", "task"), CASES)
def test_an_adapter_reloads_to_the_same_logits(base_of, tmp_path, family, task):
    base, spec = base_of(family), job_spec(task)
    model = adapted_model(base, spec)
    before = logits(model.eval(), task)

    losses = train(model, task)
    save_adapter(model, tmp_path, URI, REVISION)

    trained, reloaded = logits(model, task), logits(reload(base, tmp_path, spec), task)
    assert losses[-1] < losses[0]
    assert not torch.allclose(trained, before, atol=1e-3)
    assert torch.equal(trained, reloaded)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_part_of_the_adapter_gets_a_gradient(base_of, family, task):
    model = adapted_model(base_of(family), job_spec(task)).train()
    with torch.no_grad():  # B starts at zero, which leaves A without a gradient
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
    model(**batch(task)).loss.backward()
    still = [name for name, value in model.named_parameters() if value.requires_grad and not value.grad.any()]
    assert still == []
    assert all(value.grad is None for value in model.parameters() if not value.requires_grad)


OPTIONS = [
    ("llama", "CausalLM", {"rank": 1}),
    ("llama", "CausalLM", {"rank": 256, "alpha": 512}),
    ("llama", "CausalLM", {"rank": 4, "rsLoRA": True, "alpha": 7.5}),
    ("llama", "CausalLM", {"rank": 4, "doRA": True}),
    ("llama", "CausalLM", {"rank": 4, "dropout": 0.1, "rankPattern": {"q_proj": 2, "layers.1.mlp.up_proj": 8}}),
    ("llama", "CausalLM", {"rank": 4, "targetModules": ["q_proj", "v_proj"], "initialization": "Gaussian"}),
    ("llama", "CausalLM", {"rank": 4, "initialization": "Orthogonal"}),
    ("llama", "CausalLM", {"rank": 4, "modulesToSave": ["embed_tokens", "lm_head"]}),
    ("gemma", "CausalLM", {"rank": 4, "modulesToSave": ["embed_tokens"]}),
    ("gpt2", "CausalLM", {"rank": 4, "doRA": True, "targetModules": ["c_attn"]}),
    ("gpt2", "SequenceClassification", {"rank": 4, "rsLoRA": True}),
    ("bert", "SequenceClassification", {"rank": 8, "targetModules": ["query", "value"]}),
    ("roberta", "SequenceClassification", {"rank": 4, "doRA": True}),
    ("t5", "Seq2SeqLM", {"rank": 4, "doRA": True, "rsLoRA": True}),
]


@pytest.mark.parametrize(("family", "task", "lora"), OPTIONS)
def test_an_option_reloads_to_the_same_logits(base_of, tmp_path, family, task, lora):
    base, spec = base_of(family), job_spec(task, lora=lora)
    model = adapted_model(base, spec)
    train(model, task)
    save_adapter(model, tmp_path, URI, REVISION)
    assert torch.equal(logits(model, task), logits(reload(base, tmp_path, spec), task))


CONVERTED = [
    ("llama", {}),
    ("llama", {"rsLoRA": True}),
    ("llama", {"doRA": True}),
    ("llama", {"rankPattern": {"q_proj": 2}}),
    ("gpt2", {}),
    ("t5", {}),
]


@pytest.mark.parametrize("start", ["PiSSA", "OLoRA"])
@pytest.mark.parametrize(("family", "lora"), CONVERTED)
def test_an_adapter_that_changed_the_base_is_converted_for_the_clean_one(base_of, tmp_path, family, lora, start):
    task = "Seq2SeqLM" if family == "t5" else "CausalLM"
    base, spec = base_of(family), job_spec(task, lora={"rank": 4, "alpha": 8, "initialization": start} | lora)
    model = adapted_model(base, spec)
    clean = logits(adapted_model(base, job_spec(task)).eval(), task)  # a fresh plain adapter changes nothing
    torch.testing.assert_close(logits(model.eval(), task), clean, atol=1e-4, rtol=1e-4)
    train(model, task)
    config = save_adapter(model, tmp_path, URI, REVISION)
    assert config["r"] == 8
    assert config["init_lora_weights"] is True
    reloaded = logits(reload(base, tmp_path, spec), task)
    torch.testing.assert_close(logits(model, task), reloaded, atol=1e-5, rtol=1e-4)


SIZED = [
    *((family, task, {"rank": 4}) for family, task in CASES),
    *OPTIONS,
    *(
        ("llama" if family == "t5" else family, "CausalLM", {"rank": 4, "initialization": "PiSSA"} | lora)
        for family, lora in CONVERTED
    ),
]


@pytest.mark.parametrize(("family", "task", "lora"), SIZED)
def test_a_preflight_counts_what_is_trained_and_published_without_the_weights(base_of, tmp_path, family, task, lora):
    base, spec = base_of(family), job_spec(task, lora=lora)
    config = json.loads((base / "config.json").read_text())
    expected = adapter_shape(spec, config, headers(base), len(labels_of(spec)))

    model = adapted_model(base, spec)
    save_adapter(model, tmp_path, URI, REVISION)

    published = load_file(tmp_path / ADAPTER_WEIGHTS)
    assert expected.trainable == sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert expected.published == sum(value.numel() for value in published.values())
    assert adapter_bytes(expected.published) == sum(value.nbytes for value in published.values())
    written = model.peft_config["default"]
    assert set(expected.targets) == {*written.target_modules, *(written.target_parameters or [])}


def headers(base):
    """Return the shapes of the stored weights."""
    with safe_open(base / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
