"""What the agent refuses to load, by config, manifest and pod; see test_tensors.py for the weights."""

import json

import pytest
import torch

from lora_agent.compatibility import MAX_CONFIG_BYTES, verdicts_of
from lora_api.messages import Servability
from lora_api.reasons import Reason
from support.adapter_folder import (
    BASE,
    CONFIG,
    REVISION,
    accepted,
    desired,
    factors,
    manifest_of,
    pod,
    refused,
    write_adapter,
)


@pytest.fixture
def folder(tmp_path):
    """Write an adapter, whole or with changed fields of its config or other tensors."""
    return lambda config=None, tensors=None: write_adapter(tmp_path, config, tensors)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "lorax", "dirwatch", "static"])
def test_a_plain_adapter_is_accepted_by_every_engine(folder, engine):
    accepted(folder(), manifest=manifest_of(), facts=pod(engine=engine))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_number_formats_of_engines_are_accepted(folder, dtype):
    accepted(folder(tensors=factors(dtype=dtype)))


# The format.


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "adapter_config.json is missing"),
        ("{", "adapter_config.json is no JSON"),
        ("[" * 100_000, "adapter_config.json is no JSON"),
        ("[]", "adapter_config.json: adapter_config.json: "),
        (" " * (MAX_CONFIG_BYTES + 1), f"adapter_config.json has more than {MAX_CONFIG_BYTES} bytes"),
        (json.dumps(CONFIG | {"r": "eight"}), "adapter_config.json: r: "),
        (json.dumps({key: value for key, value in CONFIG.items() if key != "r"}), "adapter_config.json: r: "),
        (json.dumps(CONFIG | {"rank_pattern": {"q_proj": 0}}), "adapter_config.json: rank_pattern.q_proj: "),
        (json.dumps(CONFIG | {"peft_type": "IA3"}), "peft_type is IA3; only LORA"),
        (json.dumps({key: value for key, value in CONFIG.items() if key != "peft_type"}), "peft_type is nothing"),
    ],
)
def test_a_config_that_peft_did_not_write(folder, content, told):
    path = folder()
    if content is None:
        (path / "adapter_config.json").unlink()
    else:
        (path / "adapter_config.json").write_text(content)
    assert told in refused(path, Reason.NOT_AN_ADAPTER)


def test_weights_that_are_not_there(folder):
    path = folder()
    weights = path / "adapter_model.safetensors"
    weights.unlink()
    assert "adapter_model.safetensors is missing (no weights)" in refused(path, Reason.NOT_AN_ADAPTER)
    (path / "adapter_model.bin").write_bytes(b"x")
    assert "adapter_model.bin is not read, as it can hold code" in refused(path, Reason.NOT_AN_ADAPTER)


def test_a_truncated_file_is_no_adapter(folder):
    path = folder()
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "adapter_model.safetensors: it is cut" in refused(path, Reason.NOT_AN_ADAPTER)


# Options and rank.


@pytest.mark.parametrize(
    ("config", "engine", "told"),
    [
        ({"use_dora": True}, "vllm", "vllm cannot serve this adapter: DoRA is not served; train it without that"),
        ({"use_rslora": True}, "sglang", "rsLoRA is ignored"),
        ({"use_rslora": True}, "sglang", "or serve it with vllm or lorax or tgi"),
        ({"init_lora_weights": "pissa"}, "lorax", "convert the adapter first"),
        ({"layers_to_transform": [0]}, "lorax", "only some layers"),
    ],
)
def test_options_that_this_engine_does_not_serve(folder, config, engine, told):
    assert told in refused(folder(config), facts=pod(engine=engine))


@pytest.mark.parametrize(("config", "engine"), [({"use_rslora": True}, "vllm"), ({"use_rslora": True}, "static")])
def test_options_that_only_other_engines_refuse_are_no_reason(folder, config, engine):
    accepted(folder(config), facts=pod(engine=engine))


@pytest.mark.parametrize(
    ("config", "limit", "engine", "told"),
    [
        ({"r": 24}, 16, "vllm", "rank 24 is above the 16 of the engine; start the engine with --max-lora-rank 32"),
        ({"r": 24}, 16, "sglang", "--max-lora-rank 24"),
        ({"rank_pattern": {"q_proj": 64}}, 32, "vllm", "rank 64 is above the 32"),
    ],
)
def test_a_rank_above_the_limit_of_the_engine(folder, config, limit, engine, told):
    assert told in refused(folder(config), facts=pod(max_rank=limit, engine=engine))


@pytest.mark.parametrize("limit", [8, 16, None])
def test_a_rank_within_the_limit(folder, limit):
    accepted(folder(), facts=pod(max_rank=limit))


# The base model.


@pytest.mark.parametrize(
    ("wanted", "declared", "served"),
    [
        (BASE, BASE, ()),
        (f"hf://{BASE}/", BASE, ()),
        (BASE, f"hf://{BASE}", ("other/model",)),
        ("s3://models/base", "s3://models/base/", ("/mnt/models",)),
        (BASE, None, (BASE,)),
        (BASE, None, ("prod/chat", BASE)),
        (BASE, None, ("chat",)),
        (BASE, None, ()),
        (BASE, None, ("/mnt/models/base",)),
        (BASE, None, ("prod/chat", "/mnt/models/base")),
        (BASE, None, ("s3://models/base",)),
        ("s3://models/base", None, (BASE,)),
    ],
)
def test_a_base_that_is_the_right_one_or_could_be(folder, wanted, declared, served):
    accepted(folder(), adapter=desired(wanted), facts=pod(base_model=declared, engine_bases=served))


@pytest.mark.parametrize(
    ("wanted", "declared", "served", "other"),
    [
        (BASE, "owner/other", (BASE,), "owner/other"),
        (BASE, "s3://models/base", (), "s3://models/base"),
        (BASE, None, ("owner/other",), "owner/other"),
        (BASE, None, ("chat", "owner/other"), "owner/other"),
    ],
)
def test_another_base(folder, wanted, declared, served, other):
    message = refused(folder(), adapter=desired(wanted), facts=pod(base_model=declared, engine_bases=served))
    assert f"the adapter is for {BASE}" in message
    assert other in message
    assert "lora-operator.io/base-model" in message


@pytest.mark.parametrize(
    ("wanted", "served", "fits"),
    [
        (REVISION, REVISION, True),
        (REVISION, REVISION[:12], True),
        (REVISION, "b" * 40, False),
        (REVISION, "main", True),
        ("v1", "v2", False),
        ("sha256:" + "a" * 64, "sha256:" + "b" * 64, False),
        (REVISION, None, True),
        (None, REVISION, True),
    ],
)
def test_revisions_are_compared_where_both_are_known(folder, wanted, served, fits):
    facts, adapter = pod(base_revision=served), desired(revision=wanted)
    if fits:
        accepted(folder(), adapter=adapter, facts=facts)
    else:
        assert "spec.baseModel.revision: the adapter is for" in refused(folder(), adapter=adapter, facts=facts)


def test_the_manifest_says_which_base_it_was_trained_on(folder):
    s3 = manifest_of("s3://models/base")
    accepted(folder(), adapter=desired("s3://models/base/"), manifest=s3)
    message = refused(folder(), manifest=s3)
    assert message.startswith(f"spec.baseModel.name is {BASE}, and the adapter was trained on s3://models/base")
    accepted(folder(), adapter=desired(revision=REVISION), manifest=manifest_of())
    assert "write that revision" in refused(folder(), adapter=desired(revision="b" * 40), manifest=manifest_of())


# Verdicts.


def test_verdicts_are_of_the_config_and_only_without_one_of_the_manifest(folder):
    old = manifest_of(servable=[Servability(engine="vllm", servable=True)])
    path = folder({"use_dora": True})
    assert [each.servable for each in verdicts_of(path, old)] == [False] * 4
    (path / "adapter_config.json").write_text("{")
    assert verdicts_of(path, old) == old.servable
    assert verdicts_of(path, None) == []
