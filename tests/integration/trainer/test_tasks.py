"""Every task from its sample's data to an adapter that PEFT loads: the whole trainer, on a family that fits."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

from integration.trainer.conftest import keys, put_rows
from lora_api.artifacts import Manifest, digest_of
from lora_api.exit_codes import ExitCode
from lora_api.training import METRICS, Objective, Task
from lora_trainer.publish.golden import PROMPTS
from support.tiny_models import save_tiny_model

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples" / "data"
TRAINING = {"maxSteps": 6, "effectiveBatchSize": 4, "learningRate": 0.01}

TASKS = [
    ("llama", "support", {}, "AutoModelForCausalLM", "evalLoss"),
    ("gpt2", "descriptions", {}, "AutoModelForCausalLM", "evalLoss"),
    ("qwen3", "preferences", {"objective": "DPO"}, "AutoModelForCausalLM", "rewardAccuracy"),
    ("bert", "intents", {"task": "SequenceClassification"}, "AutoModelForSequenceClassification", "macroF1"),
    ("llama", "intents", {"task": "SequenceClassification"}, "AutoModelForSequenceClassification", "accuracy"),
    ("roberta", "orders", {"task": "TokenClassification"}, "AutoModelForTokenClassification", "entityF1"),
    ("t5", "summaries", {"task": "Seq2SeqLM"}, "AutoModelForSeq2SeqLM", "evalLoss"),
    ("mistral", "support", {"lora": {"rank": 4, "initialization": "PiSSA"}}, "AutoModelForCausalLM", "evalLoss"),
    ("gemma3", "support", {"lora": {"rank": 4, "doRA": True}}, "AutoModelForCausalLM", "evalLoss"),
    ("llama", "support", {"quantization": {"bits": 4}}, "AutoModelForCausalLM", "evalLoss"),
]


@pytest.fixture
def put_model(s3, bucket, tmp_path):
    """Put a tiny model of a family over the base, and return its folder."""

    def put(family):
        folder = save_tiny_model(family, tmp_path / family)
        for key in keys(s3, bucket, "base/"):
            s3.delete_object(Bucket=bucket, Key=key)
        for file in folder.iterdir():
            s3.upload_file(str(file), bucket, f"base/{file.name}")
        return folder

    return put


def fetch(s3, uri, folder):
    """Download everything below a URI."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    folder.mkdir()
    for key in keys(s3, bucket, f"{prefix}/"):
        s3.download_file(bucket, key, str(folder / key.rpartition("/")[2]))
    return folder


@pytest.mark.parametrize(
    ("family", "data", "changes", "auto_model", "metric"),
    TASKS,
    ids=[f"{family}-{data}-{'-'.join(map(str, changes)) or 'plain'}" for family, data, changes, _, _ in TASKS],
)
def test_a_task_ends_with_an_adapter_that_peft_loads(
    s3, bucket, job, lora_trainer, put_model, tmp_path, family, data, changes, auto_model, metric
):
    base = put_model(family)
    s3.upload_file(str(SAMPLES / f"{data}.jsonl"), bucket, "train.jsonl")
    training = TRAINING | {"maxLength": 256}
    wanted = METRICS[Task(changes.get("task", "CausalLM")), Objective(changes.get("objective", "SFT"))]
    evaluation = {"metrics": [each.value for each in wanted]}
    path = job(training=training, evaluation=evaluation, preflight={"maximumTruncatedFraction": 1}, **changes)
    code, message = lora_trainer("preflight", path)
    assert (code, message.reason) == (ExitCode.DONE, "Finished"), message
    resolved = message.preflight
    code, message = lora_trainer("train", path)
    assert (code, message.reason) == (ExitCode.DONE, "Finished"), message
    metrics = message.adapter.metrics
    assert metrics["evalLoss"] < metrics["baseEvalLoss"]
    assert {metric, f"base{metric[0].upper()}{metric[1:]}", *wanted} <= set(metrics)

    folder = fetch(s3, message.adapter.uri, tmp_path / "adapter")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert digest_of(manifest.files) == message.adapter.digest
    stored = sum(each.numel() for each in load_file(folder / "adapter_model.safetensors").values())
    assert resolved.adapter_bytes == 4 * stored
    assert {each.path for each in manifest.documents} == {"README.md", "losses.png"}
    sampled = auto_model == "AutoModelForCausalLM" and "quantization" not in changes
    assert len(manifest.samples) == (len(PROMPTS) if sampled else 0)
    assert ("quantization" in manifest.training) is ("quantization" in changes)
    if "quantization" not in changes:
        load_with_peft(base, folder, auto_model)


def load_with_peft(base, folder, auto_model):
    """Load the adapter on the clean base as anybody would, and check that nothing is left over or random."""
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = load_file(folder / "adapter_model.safetensors")
    heads = [each for name, each in weights.items() if "lora_" not in name and each.dim() == 2]
    labels = {"num_labels": heads[0].shape[0]} if config.get("modules_to_save") else {}
    model = getattr(transformers, auto_model).from_pretrained(base, dtype=torch.float32, **labels)
    loaded = get_peft_model_state_dict(PeftModel.from_pretrained(model, folder), save_embedding_layers=False)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], each) for name, each in weights.items())


def test_other_forms_are_published_before_the_adapter(s3, bucket, job, lora_trainer):
    output = {"uri": f"s3://{bucket}/out", "formats": ["Merged", "GGUF"]}
    code, message = lora_trainer("train", job(output=output))
    assert code == ExitCode.DONE
    found = keys(s3, bucket, "out/team-a/bot/")
    for form, file in (("merged", "model.safetensors"), ("gguf", "adapter.gguf")):
        (manifest,) = [key for key in found if f"/{form}/" in key and key.endswith("manifest.json")]
        assert any(f"/{form}/" in key and key.endswith(file.rpartition(".")[2]) for key in found), found
        content = json.loads(s3.get_object(Bucket=bucket, Key=manifest)["Body"].read())
        assert content["adapter"] == message.adapter.digest
        assert content["samples"] == []


def test_a_gate_that_is_not_passed_ends_with_its_code_and_the_adapter_is_there(s3, bucket, job, lora_trainer):
    evaluation = {"gate": {"metric": "evalLoss", "minimumGain": 100}}
    code, message = lora_trainer("train", job(evaluation=evaluation))
    assert (code, message.reason) == (ExitCode.GATE_NOT_PASSED, "GateNotPassed")
    assert "evalLoss went from" in message.message
    assert "asks for a gain of 100" in message.message
    assert f"{message.adapter.uri}/manifest.json".removeprefix(f"s3://{bucket}/") in keys(s3, bucket)


def test_a_gate_that_is_passed_changes_nothing(job, lora_trainer):
    code, message = lora_trainer("train", job(evaluation={"gate": {"metric": "tokenAccuracy", "minimumGain": 0.01}}))
    assert code == ExitCode.DONE
    assert message.adapter.metrics["tokenAccuracy"] > message.adapter.metrics["baseTokenAccuracy"]


def test_what_the_model_forgets_is_measured_before_and_after(s3, bucket, job, lora_trainer):
    general = [{"text": f"The weather is sunny, {index} degrees, and I am fine, thanks."} for index in range(10)]
    put_rows(s3, bucket, general, "general.jsonl")
    retention = {"uri": f"s3://{bucket}/general.jsonl"}
    code, message = lora_trainer("train", job(evaluation={"retention": retention}))
    assert code == ExitCode.DONE
    metrics = message.adapter.metrics
    assert metrics["retentionLoss"] != metrics["baseRetentionLoss"]


def test_two_processes_train_one_adapter(s3, bucket, job, lora_trainer, monkeypatch):
    monkeypatch.setenv("LORA_CPU_PROCESSES", "2")
    code, message = lora_trainer("train", job())
    assert (code, message.reason, message.step) == (ExitCode.DONE, "Finished", 6), message
    manifests = [key for key in keys(s3, bucket) if "/adapters/" in key and key.endswith("manifest.json")]
    assert manifests == [f"{message.adapter.uri}/manifest.json".removeprefix(f"s3://{bucket}/")]
    assert len(json.loads(s3.get_object(Bucket=bucket, Key=manifests[0])["Body"].read())["samples"]) == len(PROMPTS)


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("bert", {"task": "SequenceClassification"})])
def test_a_base_in_bfloat16_is_trained_in_it(s3, bucket, job, lora_trainer, put_model, family, changes):
    put_model(family)
    s3.upload_file(str(SAMPLES / ("intents.jsonl" if changes else "support.jsonl")), bucket, "train.jsonl")
    training = TRAINING | {"maxLength": 256, "precision": "BF16"}
    path = job(training=training, preflight={"maximumTruncatedFraction": 1}, **changes)
    code, message = lora_trainer("train", path)
    assert (code, message.reason) == (ExitCode.DONE, "Finished"), message
    assert message.adapter.metrics["evalLoss"] < message.adapter.metrics["baseEvalLoss"]


def test_a_gpu_that_tells_its_memory_is_planned_for(job, lora_trainer):
    node = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    code, message = lora_trainer("preflight", job(resources={"gpus": 1}, scheduling={"nodeSelector": node}))
    assert code == ExitCode.DONE
    assert message.preflight.estimated_seconds is not None
    assert message.preflight.memory_estimate.total < 80 << 30
