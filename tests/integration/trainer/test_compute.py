"""Packed attention, fused layers, chunked losses and recomputation, all at once: alone, on two processes, quantized."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from integration.trainer.compute_worker import build, gradients_of, losses
from lora_trainer.model.fused import fuse_lora
from unit.trainer.model.tiny import documents, gradients, relative, tiny_model, with_adapter

WORKER = Path(__file__).with_name("compute_worker.py")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_model("mistral").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["replicated", "sharded"])
def test_two_processes_have_the_gradients_of_one(kind, base, tmp_path):
    target = tmp_path / "gradients.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", WORKER]
    paths = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(
        [*map(str, command), kind, str(base), str(target)], check=True, env=os.environ | {"PYTHONPATH": paths}
    )
    model = build(base, torch.float32)
    for place in range(3):
        losses(model, place).sum().backward()
    expected, found = gradients_of(model), torch.load(target)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.any()
        assert relative(found[name], gradient) < 1e-5, name


@pytest.mark.parametrize(
    "settings",
    [{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}, {"load_in_8bit": True}],
    ids=["nf4", "8 bits"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_quantized_base_the_fused_layer_has_peft_s_numbers(settings, dtype, base):
    if settings.get("load_in_4bit"):
        settings = settings | {"bnb_4bit_compute_dtype": dtype}
    quantized = AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, quantization_config=BitsAndBytesConfig(**settings)
    )
    model = with_adapter(quantized)
    row = documents(16)[0][None]
    found = []
    for expected_layers in (0, 14):
        if expected_layers:
            assert fuse_lora(model) == expected_layers
        logits = model(input_ids=row, use_cache=False).logits
        logits.float().square().mean().backward()
        found.append((logits.detach().float(), gradients(model)))
    tolerance = 1e-5 if dtype is torch.float32 else 5e-2
    for fused, plain in zip(found[1], found[0], strict=True):
        assert relative(fused, plain) < tolerance
