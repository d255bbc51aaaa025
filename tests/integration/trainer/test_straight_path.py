"""From a job file to a verified adapter in S3, and that the adapter is what was trained."""

import json

import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

from integration.trainer.conftest import conversations, keys, put_rows
from lora_api.artifacts import Manifest, digest_of
from lora_api.exit_codes import ExitCode
from lora_trainer.training.trainer import LoraTrainer


def fetch(s3, uri, folder):
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for key in keys(s3, bucket, f"{prefix}/"):
        s3.download_file(bucket, key, str(folder / key.rpartition("/")[2]))
    return folder


def test_preflight_and_training_end_with_an_adapter_that_is_what_was_trained(
    s3, bucket, job, lora_trainer, tiny_base, tmp_path, monkeypatch
):
    trained = {}
    run = LoraTrainer.run

    def keep_model(trainer):
        run(trainer)
        trained["weights"] = get_peft_model_state_dict(trainer.model, save_embedding_layers=False)
        model = trainer.model.eval()
        model.get_base_model().set_attn_implementation("sdpa")  # of one row, as the reloaded model computes
        with torch.no_grad():
            trained["logits"] = model(input_ids=torch.arange(20)[None], use_cache=False).logits

    monkeypatch.setattr(LoraTrainer, "run", keep_model)

    code, message = lora_trainer("preflight", job())
    assert (code, message.reason) == (ExitCode.DONE, "Finished")
    resolved = message.preflight
    assert (resolved.rows, resolved.validation_rows) == (20, 5)
    plan = resolved.plan
    assert (plan.micro_batch_size, plan.accumulation_steps, plan.max_length, plan.total_steps) == (4, 1, 128, 6)
    run_files = keys(s3, bucket, "out/team-a/bot/")
    assert run_files == ["out/team-a/bot/runs/1/log.jsonl", "out/team-a/bot/runs/1/report.json"]

    code, message = lora_trainer("train", job())
    assert (code, message.step) == (ExitCode.DONE, 6)
    metrics = message.adapter.metrics
    assert metrics["evalLoss"] < metrics["baseEvalLoss"]
    assert metrics["trainLoss"] < metrics["baseEvalLoss"]

    (tmp_path / "adapter").mkdir()
    folder = fetch(s3, message.adapter.uri, tmp_path / "adapter")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert manifest.digest == digest_of(manifest.files) == message.adapter.digest
    assert manifest.base_model.revision == resolved.base_revision
    assert (manifest.dataset.rows, manifest.dataset.digest) == (20, resolved.dataset_digest)
    assert sum(file.size for file in manifest.files) == message.adapter.bytes
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"s3://{bucket}/base"
    assert "/scratch" not in json.dumps(config) + (folder / "manifest.json").read_text()
    assert len(manifest.samples) == 6
    assert all(each.base != each.adapter for each in manifest.samples)

    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    reloaded = PeftModel.from_pretrained(base, folder).eval()
    weights = get_peft_model_state_dict(reloaded, save_embedding_layers=False)
    assert weights.keys() == trained["weights"].keys()
    assert all(torch.equal(weights[name], each) for name, each in trained["weights"].items())
    with torch.no_grad():
        logits = reloaded(input_ids=torch.arange(20)[None], use_cache=False).logits
    torch.testing.assert_close(logits, trained["logits"], rtol=1e-5, atol=1e-6)

    lines = s3.get_object(Bucket=bucket, Key="out/team-a/bot/runs/1/metrics.jsonl")["Body"].read().splitlines()
    assert [json.loads(line)["step"] for line in lines if b'"loss"' in line] == [1, 2, 3, 4, 5, 6]
    log = s3.get_object(Bucket=bucket, Key="out/team-a/bot/runs/1/log.jsonl")["Body"].read().splitlines()
    started = [line["command"] for line in map(json.loads, log) if line["message"] == "started"]
    assert started == ["preflight", "train"], "the log of a run has those of all its pods"


def test_the_same_request_gives_the_same_digest_and_is_published_once(s3, bucket, job, lora_trainer):
    _, first = lora_trainer("train", job())
    manifest = f"{first.adapter.uri.removeprefix(f's3://{bucket}/')}/manifest.json"
    before = s3.get_object(Bucket=bucket, Key=manifest)["Body"].read()
    code, second = lora_trainer("train", job())
    assert (code, second.adapter.digest) == (ExitCode.DONE, first.adapter.digest)
    assert s3.get_object(Bucket=bucket, Key=manifest)["Body"].read() == before
    _, other = lora_trainer("train", job(training={"maxSteps": 6, "effectiveBatchSize": 4, "seed": 7}))
    assert other.adapter.digest != first.adapter.digest


def test_rank_pattern_and_rslora_reach_the_adapter(s3, bucket, job, lora_trainer, tmp_path):
    lora = {"rank": 4, "alpha": 8, "rsLoRA": True, "rankPattern": {"q_proj": 2}, "targetModules": ["v_proj", "q_proj"]}
    code, message = lora_trainer("train", job(lora=lora))
    assert code == ExitCode.DONE
    config = json.loads((fetch(s3, message.adapter.uri, tmp_path) / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["rank_pattern"], config["r"]) == (True, {"q_proj": 2}, 4)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert [each.engine for each in message.adapter.servable if each.servable] == ["vllm"]


def test_prompt_and_completion_with_a_validation_file_of_their_own(s3, bucket, job, lora_trainer):
    rows = [{"prompt": f"The capital of France {index} is", "completion": " Paris."} for index in range(12)]
    put_rows(s3, bucket, rows)
    put_rows(s3, bucket, [*rows[:2], {"prompt": "And of Spain?", "completion": " Madrid."}], "validation.jsonl")
    dataset = {
        "train": {"uri": f"s3://{bucket}/train.jsonl"},
        "validation": {"uri": f"s3://{bucket}/validation.jsonl"},
    }
    _, message = lora_trainer("preflight", job(dataset=dataset))
    assert (message.preflight.rows, message.preflight.validation_rows) == (10, 3)  # two were in both
    code, message = lora_trainer("train", job(dataset=dataset))
    assert code == ExitCode.DONE
    assert "evalLoss" in message.adapter.metrics


def test_without_validation_there_is_no_evaluation(s3, bucket, job, lora_trainer):
    code, message = lora_trainer("train", job(dataset={"train": {"uri": f"s3://{bucket}/train.jsonl"}}))
    assert code == ExitCode.DONE
    assert list(message.adapter.metrics) == ["trainLoss"]


def test_an_input_that_changed_after_the_preflight_ends_the_job(s3, bucket, job, lora_trainer):
    lora_trainer("preflight", job())
    put_rows(s3, bucket, conversations(26))
    code, message = lora_trainer("train", job())
    assert code == ExitCode.INVALID_REQUEST
    assert "spec.dataset: the data changed between preflight and training" in message.message
