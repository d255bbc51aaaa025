"""An adapter of a small decoder on disk, and what an agent says of it."""

import json
from datetime import UTC, datetime

import torch
from safetensors.torch import save_file

from lora_agent.compatibility import PodFacts, refusal
from lora_api.artifacts import Manifest, ManifestBaseModel, ManifestDataset, ManifestJob
from lora_api.delivery import DesiredAdapter
from lora_api.reasons import Reason

RANK, WIDTH, HEADS, INNER = 8, 576, 192, 1536
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH, HEADS),
    "self_attn.v_proj": (WIDTH, HEADS),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (WIDTH, INNER),
    "mlp.up_proj": (WIDTH, INNER),
    "mlp.down_proj": (INNER, WIDTH),
}
"""Inputs and outputs."""
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": RANK,
    "lora_alpha": 16,
    "bias": "none",
    "init_lora_weights": True,
    "target_modules": sorted(name.rpartition(".")[2] for name in SHAPES),
}
BASE, REVISION = "owner/base", "a" * 40
POD = PodFacts(engine="vllm", max_rank=16, base_model=None, base_revision=None, engine_bases=(BASE,))


def name_of(layer, module, factor):
    """Return the name of a factor, A or B, of a module of a layer."""
    return f"base_model.model.model.layers.{layer}.{module}.lora_{factor}.weight"


def factors(layers=2, shapes=SHAPES, rank=RANK, dtype=torch.float16):
    """Return the factors of all modules of some layers."""
    tensors = {}
    for layer in range(layers):
        for module, (inputs, outputs) in shapes.items():
            tensors[name_of(layer, module, "A")] = torch.zeros(rank, inputs, dtype=dtype)
            tensors[name_of(layer, module, "B")] = torch.zeros(outputs, rank, dtype=dtype)
    return tensors


def write_adapter(folder, config=None, tensors=None):
    """Write an adapter and return its folder: `config` are changed fields, `tensors` the weights."""
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | (config or {})))
    save_file(factors() if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def desired(name=BASE, revision=None):
    """Return what a pod is to serve: an adapter of a base."""
    base = {"name": name} | ({"revision": revision} if revision else {})
    return DesiredAdapter.model_validate(
        {"name": "bot", "servedName": "bot", "uri": "s3://bucket/bot", "baseModel": base}
    )


def manifest_of(uri=f"hf://{BASE}", revision=REVISION, servable=()):
    """Return the manifest of an adapter that was trained on a base."""
    return Manifest(
        kind="Adapter",
        digest="sha256:" + "0" * 64,
        files=[],
        base_model=ManifestBaseModel(name=uri.removeprefix("hf://"), uri=uri, revision=revision),
        dataset=ManifestDataset(uri="s3://data/train", digest="0" * 64, rows=1),
        job=ManifestJob(namespace="team", name="bot", uid="1", run=1),
        lora={},
        training={},
        metrics={},
        seed=1,
        step=1,
        versions={},
        servable=list(servable),
        created_time=datetime(2026, 1, 2, tzinfo=UTC),
    )


def pod(**changes):
    """Return what is known of a pod."""
    known = {"engine": "vllm", "max_rank": 16, "base_model": None, "base_revision": None, "engine_bases": (BASE,)}
    return PodFacts(**known | changes)


def refused(path, reason=Reason.INCOMPATIBLE, *, adapter=None, manifest=None, facts=POD):
    """Return the message of a refusal, after a look at its form."""
    fault = refusal(path, adapter or desired(), manifest, facts)
    assert fault is not None
    assert (fault.reason, fault.permanent) == (reason, True)
    assert "\n" not in fault.message
    assert len(fault.message) <= 1024
    return fault.message


def accepted(path, *, adapter=None, manifest=None, facts=POD):
    """Check that nothing is refused."""
    assert refusal(path, adapter or desired(), manifest, facts) is None
