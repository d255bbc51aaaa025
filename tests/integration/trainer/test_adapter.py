"""The adapter on real models: quantized bases, checkpoints, resumed starts, and what is refused."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lora_api.exit_codes import ExitCode
from lora_trainer.checkpoint.state import load_adapter
from lora_trainer.errors import TrainerError
from lora_trainer.model.adapter import add_adapter, initial_state, trainable_state
from lora_trainer.model.load import load_base
from lora_trainer.publish.adapter import save_adapter
from lora_trainer.publish.publication import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from support.tiny_models import save_tiny_model, tiny_model_tokenizer
from support.training_loop import CPU, LABELS, adapted_model, batch, job_spec, labels_of, logits, reload, train

URI, REVISION = "hf://owner/tiny", "0123abc"
QUANTIZATIONS = [
    {"bits": 4},
    {"bits": 4, "type": "fp4", "doubleQuantization": False},
    {"bits": 8},
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny_model("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_tiny_model("bert", tmp_path_factory.mktemp("bert"))


def bits_and_bytes(quantization):
    if quantization["bits"] == 8:
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.get("type", "nf4"),
        bnb_4bit_use_double_quant=quantization.get("doubleQuantization", True),
        bnb_4bit_compute_dtype=torch.float32,
    )


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_qlora_reloads_on_a_quantized_base_to_the_same_logits(llama, tmp_path, quantization):
    spec = job_spec(quantization=quantization)
    model = adapted_model(llama, spec)
    assert {type(layer.base_layer).__name__ for layer in adapters(model)} <= {"Linear4bit", "Linear8bitLt"}
    losses = train(model, "CausalLM")
    save_adapter(model, tmp_path, URI, REVISION)
    settings = {"quantization_config": bits_and_bytes(quantization), "device_map": {"": "cpu"}}
    reloaded = reload(llama, tmp_path, spec, **settings)
    assert losses[-1] < losses[0]
    assert torch.equal(logits(model, "CausalLM"), logits(reloaded, "CausalLM"))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_adapter_of_a_quantized_base_is_in_float32_and_the_new_head_is_not_quantized(llama, quantization):
    model = adapted_model(llama, job_spec("SequenceClassification", quantization=quantization))
    assert {value.dtype for value in trainable_state(model).values()} == {torch.float32}
    losses = train(model, "SequenceClassification")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("task", ["CausalLM", "SequenceClassification"])
def test_on_a_bfloat16_base_everything_that_is_trained_is_in_float32(tmp_path, task):
    base = save_tiny_model("llama", tmp_path / "base", dtype=torch.bfloat16)
    spec = job_spec(task, lora={"rank": 4, "modulesToSave": ["embed_tokens"]})
    model = add_adapter(load_base(base, torch.bfloat16, spec, labels_of(spec), CPU), spec, seed=1)
    assert {value.dtype for value in trainable_state(model).values()} == {torch.float32}
    losses = train(model, task)
    assert losses[-1] < losses[0]


def test_a_principal_start_is_exact_on_a_bfloat16_base(tmp_path):
    """Moved and put back, the base differs by its own rounding only, a 256th of each weight."""
    base = save_tiny_model("llama", tmp_path / "base", dtype=torch.bfloat16)
    spec = job_spec(lora={"rank": 8, "alpha": 8, "initialization": "PiSSA"})
    clean = load_base(base, torch.bfloat16, spec, [], CPU).get_submodule("model.layers.0.mlp.up_proj").weight.clone()
    model = add_adapter(load_base(base, torch.bfloat16, spec, [], CPU), spec, seed=1)
    layer = next(layer for name, layer in model.named_modules() if name.endswith("layers.0.mlp.up_proj"))
    rest = layer.base_layer.weight.float()
    restored = rest + layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert ((restored - clean.float()).abs() <= rest.abs() / 256 + 1e-6).all()


def test_the_same_seed_gives_the_same_adapter_and_the_same_bytes(bert, tmp_path):
    spec = job_spec("SequenceClassification")
    for name in ("first", "second"):
        save_adapter(adapted_model(bert, spec), tmp_path / name, URI, REVISION)
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        first, second = tmp_path / "first" / file, tmp_path / "second" / file
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_mode & 0o777 == 0o644


def test_activation_checkpointing_changes_no_gradient(llama):
    gradients = []
    for checkpoint in (False, True):
        model = adapted_model(llama, job_spec(), checkpoint=checkpoint).train()
        assert model.base_model.model.is_gradient_checkpointing is checkpoint
        model(**batch("CausalLM")).loss.backward()
        gradients.append([value.grad for value in model.parameters() if value.requires_grad])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))
    assert any(each.any() for each in gradients[0])


class Wrapped(torch.nn.Module):
    """A model inside another, as DDP has it."""

    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped, torch.compile])
def test_a_trained_state_goes_into_a_fresh_model_whatever_wraps_it(bert, wrap):
    task = "SequenceClassification"
    model, fresh = (adapted_model(bert, job_spec(task)) for _ in range(2))
    train(model, task)
    state = trainable_state(wrap(model))
    assert list(state) == sorted(trainable_state(fresh))
    assert any("classifier" in name for name in state)
    load_adapter(fresh.named_parameters(), state)
    assert torch.equal(logits(model, task), logits(fresh.eval(), task))


def test_a_state_of_other_settings_is_refused(llama):
    state = trainable_state(adapted_model(llama, job_spec(lora={"rank": 8})))
    with pytest.raises(TrainerError, match="another shape") as caught:
        load_adapter(adapted_model(llama, job_spec()).named_parameters(), state)
    assert caught.value.exit_code == ExitCode.INTERNAL_ERROR


@pytest.mark.parametrize("start", ["PiSSA", "OLoRA"])
def test_a_resumed_run_takes_the_same_part_out_of_the_base(llama, start):
    spec = job_spec(lora={"rank": 4, "initialization": start})
    model = adapted_model(llama, spec)
    initial = initial_state(model)
    train(model, "CausalLM")
    resumed = adapted_model(llama, spec, initial=initial)
    load_adapter(resumed.named_parameters(), trainable_state(model))
    assert torch.equal(logits(model, "CausalLM"), logits(resumed.eval(), "CausalLM"))
    assert initial_state(resumed).keys() == initial.keys()
    assert all(torch.equal(initial_state(resumed)[name], value) for name, value in initial.items())


def test_a_start_that_changes_nothing_has_no_initial_state(llama):
    assert initial_state(adapted_model(llama, job_spec())) == {}


def test_a_pooler_that_the_files_lack_is_trained_and_saved(bert, tmp_path):
    base = without_weights(bert, tmp_path / "base", "pooler")
    spec = job_spec("SequenceClassification")
    model = adapted_model(base, spec)
    train(model, "SequenceClassification")
    config = save_adapter(model, tmp_path / "adapter", URI, REVISION)
    assert config["modules_to_save"] == ["bert.pooler.dense", "classifier"]
    reloaded = reload(base, tmp_path / "adapter", spec)
    assert torch.equal(logits(model, "SequenceClassification"), logits(reloaded, "SequenceClassification"))


@pytest.mark.parametrize("task", ["CausalLM", "SequenceClassification"])
def test_other_missing_weights_are_refused(llama, tmp_path, task):
    base, spec = without_weights(llama, tmp_path, "layers.1.mlp.up_proj"), job_spec(task)
    with pytest.raises(TrainerError, match="1 weights are missing") as caught:
        load_base(base, torch.float32, spec, labels_of(spec), CPU)
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST


def test_a_head_for_other_labels_is_replaced(bert, tmp_path):
    two = load_base(bert, torch.float32, job_spec("SequenceClassification"), LABELS[:2], CPU)
    two.save_pretrained(tmp_path)
    three = load_base(tmp_path, torch.float32, job_spec("SequenceClassification"), LABELS, CPU)
    assert three.classifier.out_features == 3
    assert three.config.id2label == dict(enumerate(LABELS))
    assert torch.equal(three.bert.pooler.dense.weight, two.bert.pooler.dense.weight)


def test_a_family_without_a_model_for_the_task_is_refused(llama):
    with pytest.raises(TrainerError, match="does not load the model for Seq2SeqLM"):
        load_base(llama, torch.float32, job_spec("Seq2SeqLM"), [], CPU)


def test_layers_that_peft_leaves_out_are_refused_and_not_left_frozen(tmp_path):
    """In a mixture with a dense layer, PEFT takes the names of that layer for those of the stacked experts."""
    config = mixture(transformers.Qwen3MoeConfig, head_dim=8, mlp_only_layers=[0])
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(TrainerError, match=r"spec\.lora\.targetModules: PEFT does not adapt model\.layers\.0"):
        adapted_model(tmp_path, job_spec())
    attention = {"rank": 4, "targetModules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    assert train(adapted_model(tmp_path, job_spec(lora=attention)), "CausalLM")


def test_experts_and_shared_expert_are_adapted_together(tmp_path):
    config = mixture(transformers.Qwen2MoeConfig, shared_expert_intermediate_size=16)
    transformers.Qwen2MoeForCausalLM(config).save_pretrained(tmp_path / "base")
    model = adapted_model(tmp_path / "base", job_spec())
    train(model, "CausalLM")
    config = save_adapter(model, tmp_path / "adapter", URI, REVISION)
    assert config["target_parameters"] == ["experts.down_proj", "experts.gate_up_proj"]
    assert {"down_proj", "up_proj", "q_proj"} <= set(config["target_modules"])
    reloaded = reload(tmp_path / "base", tmp_path / "adapter", job_spec())
    assert torch.equal(logits(model, "CausalLM"), logits(reloaded, "CausalLM"))


def mixture(config, **more):
    """Return the config of a small mixture of experts with two layers."""
    return config(
        vocab_size=len(tiny_model_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        **more,
    )


def test_the_published_config_names_the_base_and_every_module(llama, tmp_path):
    save_adapter(adapted_model(llama, job_spec()), tmp_path, URI, REVISION)
    config, weights = json.loads((tmp_path / ADAPTER_CONFIG).read_text()), load_file(tmp_path / ADAPTER_WEIGHTS)
    assert sorted(each.name for each in tmp_path.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/tiny", "0123abc")
    modules = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["target_modules"] == modules
    assert str(llama) not in (tmp_path / ADAPTER_CONFIG).read_text()
    ends = (".lora_A.weight", ".lora_B.weight")
    assert all(name.startswith("base_model.model.model.layers.") and name.endswith(ends) for name in weights)
    assert len(weights) == 2 * 2 * len(modules)


def adapters(model):
    """Return the adapted layers."""
    return [module for module in model.modules() if hasattr(module, "lora_A")]


def without_weights(base, folder, name):
    """Copy a model without the weights that have `name` in their name."""
    folder.mkdir(exist_ok=True)
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    kept = {key: value for key, value in load_file(base / "model.safetensors").items() if name not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
