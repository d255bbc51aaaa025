"""The memory estimate against measured peaks and against what forward passes really keep; the time estimate."""

import pytest
import torch

from lora_api.messages import Plan
from lora_api.training import Quantization
from lora_trainer.model import arithmetic, output_layer
from lora_trainer.model.attention import packed_inputs, use_packed_attention
from lora_trainer.model.estimate import LOGITS_CHUNK, estimate_memory, estimated_seconds, memory_of, peak_rate
from lora_trainer.model.fused import fuse_lora
from lora_trainer.model.output_layer import install_output_layer, token_losses
from lora_trainer.model.recompute import use_activation_checkpointing
from unit.trainer.model.tiny import documents, packed, padded, tiny_model, with_adapter

GIB = 2**30
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
PARAMETERS, RANK_16 = 8_030_261_248, 41_943_040


def plan(micro=1, length=4096, **changes):
    return Plan(micro_batch_size=micro, accumulation_steps=1, max_length=length, total_steps=1, **changes)


def of_8b(micro=1, quantization=None, devices=1, **changes):
    return estimate_memory(
        LLAMA_8B, PARAMETERS, RANK_16, plan(micro, **changes), 2, quantization=quantization, devices=devices
    )


@pytest.mark.parametrize(("micro", "measured"), [(4, 23.2), (8, 31.3)])
def test_8b_with_checkpointing_is_within_a_tenth_of_published_peaks_and_not_below(micro, measured):
    """Llama-3-8B, LoRA, bfloat16, 4,096 tokens a row, chunked losses, on an A100."""
    assert measured <= of_8b(micro, activation_checkpointing=True).total / GIB <= 1.1 * measured


def test_the_terms_of_8b_are_the_known_ones_and_add_up():
    estimate = of_8b(4, activation_checkpointing=True)
    assert estimate.weights / GIB == pytest.approx(14.96, abs=0.01)
    assert estimate.adapter / GIB == pytest.approx(0.63, abs=0.01)
    assert estimate.activations / GIB == pytest.approx(4.0 + 0.5, abs=0.01)  # 32 layers' inputs; the last norm's
    assert estimate.logits / GIB == pytest.approx(0.98, abs=0.01)
    parts = estimate.weights, estimate.adapter, estimate.activations, estimate.logits, estimate.working
    assert estimate.total == sum(parts)


@pytest.mark.parametrize(("quantization", "gib"), [(Quantization(), 5.3), (Quantization(bits=8), 8.5)])
def test_quantized_weights_leave_the_tables_as_they_are(quantization, gib):
    assert of_8b(quantization=quantization).weights / GIB == pytest.approx(gib, rel=0.02)


def test_sharded_weights_are_divided_and_one_layer_is_gathered():
    whole, parts = of_8b(), of_8b(sharded=True, devices=4)
    assert parts.weights == whole.weights // 4
    assert parts.working > whole.working
    assert of_8b(devices=4) == whole


def test_a_pair_has_twice_the_activations_of_a_row():
    one = estimate_memory(LLAMA_8B, PARAMETERS, RANK_16, plan(), 2)
    pair = estimate_memory(LLAMA_8B, PARAMETERS, RANK_16, plan(), 2, sequences=2)
    assert pair.activations == 2 * one.activations


def test_the_chunk_of_logits_is_that_of_the_output_layer():
    assert LOGITS_CHUNK == output_layer.CHUNK


class Kept:
    """Counts the bytes that a forward pass keeps for the backward pass, without weights."""

    def __init__(self, model):
        self._weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
        self._storages = {}

    def __call__(self, tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in self._weights:
            self._storages[place] = tensor  # kept alive: a place must not be taken twice
        return tensor

    @property
    def bytes(self):
        return sum(each.untyped_storage().size() for each in self._storages.values())


WIDE = {
    "llama": {"hidden_size": 128, "intermediate_size": 384},
    "qwen3": {"hidden_size": 128, "intermediate_size": 384, "head_dim": 32},
    "gemma3": {"hidden_size": 128, "intermediate_size": 384, "head_dim": 32},
    "gpt2": {"n_embd": 128},
    "bert": {"hidden_size": 128, "intermediate_size": 512},
    "t5": {"d_model": 128, "d_kv": 32, "d_ff": 512},
}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["all kept", "checkpointing"])
@pytest.mark.parametrize("family", WIDE)
def test_activations_are_about_what_the_forward_pass_keeps_and_hardly_less(family, checkpointing, monkeypatch):
    monkeypatch.setattr(arithmetic, "cpu_has_bfloat16", lambda: True)
    base = tiny_model(family, torch.bfloat16, **WIDE[family])
    packable = family not in ("bert", "t5") and use_packed_attention(base)
    model = with_adapter(base)
    fuse_lora(model)
    install_output_layer(model)
    if checkpointing:
        use_activation_checkpointing(model)
    rows = documents(128, 128)
    inputs = packed_inputs(packed(rows)) if packable else padded(rows)
    if family == "t5":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    kept = Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        token_losses(model, inputs, torch.arange(4), torch.arange(4))
    wanted = plan(2, 128, activation_checkpointing=checkpointing)
    estimate = estimate_memory(base.config.to_dict(), 0, 0, wanted, 2)
    most = 2.0 if checkpointing else 1.15  # the ends weigh more than these two layers' inputs
    assert 0.97 < estimate.activations / kept.bytes < most


def test_experts_count_as_far_as_a_token_is_sent_to_them():
    experts = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    dense = LLAMA_8B | {"intermediate_size": 8 * 768}
    assert (
        estimate_memory(LLAMA_8B | experts, 0, 0, plan(), 2).activations
        == estimate_memory(dense, 0, 0, plan(), 2).activations
    )


def test_encoders_have_no_logits_of_the_vocabulary():
    config = {"architectures": ["BertForMaskedLM"], "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 30522}
    assert estimate_memory(config, 0, 0, plan(), 2).logits == 0


def test_of_a_model_of_several_senses_the_text_counts():
    assert estimate_memory({"text_config": LLAMA_8B}, 0, 0, plan(), 2).activations == of_8b().activations


def test_time_follows_from_a_measured_throughput_or_from_the_name_of_the_device():
    assert estimated_seconds(1_000_000, PARAMETERS, throughput=5_000) == 200
    # 35 % of 989 TFLOP/s, 4 FLOP a parameter and token: 10,776 tokens a second.
    assert estimated_seconds(10_776_000, PARAMETERS, device="NVIDIA-H100-80GB-HBM3") == pytest.approx(1000, abs=1)
    assert estimated_seconds(10_776_000, PARAMETERS, device="NVIDIA-H100-80GB-HBM3", devices=2) == pytest.approx(
        500, abs=1
    )


@pytest.mark.parametrize("device", [None, "cpu", "NVIDIA GeForce 42", "Tesla-K80"])
def test_time_is_not_guessed_for_devices_that_are_not_known(device):
    assert estimated_seconds(1_000_000, PARAMETERS, device=device) is None


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA-A100-SXM4-80GB", 312),
        ("NVIDIA-A10G", 70),
        ("NVIDIA-A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA-GeForce-RTX-4090", 165),
        ("Tesla-V100-SXM2-16GB", 125),
        ("Tesla-T4", 65),
    ],
)
def test_devices_are_known_by_the_names_that_their_drivers_and_labels_give(name, teraflops):
    assert peak_rate(name) == teraflops * 1e12


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("NVIDIA-H100-80GB-HBM3", 80), ("NVIDIA-A100-SXM4-40GB", 40), ("Tesla-T4", None)]
)
def test_the_memory_of_a_device_is_what_its_name_tells(name, gigabytes):
    assert memory_of(name) == (gigabytes and gigabytes << 30)
