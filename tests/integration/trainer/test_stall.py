"""A training that hangs ends by itself, says where it hung, and leaves what the next attempt goes on from."""

import json
import os
import subprocess
import sys

from integration.trainer.conftest import keys
from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage

HANGS_IN_STEP_4 = """
import sys, time
from pathlib import Path
from lora_trainer import cli
from lora_trainer.training.trainer import LoraTrainer

accumulate = LoraTrainer._accumulate

def hang(trainer, model, step):
    if step == 3:
        trainer.progress._beat_time -= 1000
        time.sleep(600)
    return accumulate(trainer, model, step)

LoraTrainer._accumulate = hang
cli.run("train", Path(sys.argv[1]))
"""


def test_a_hung_training_ends_as_stalled_with_its_checkpoint_and_its_stacks(s3, bucket, job, tmp_path):
    path = job(
        training={"maxSteps": 6, "effectiveBatchSize": 4, "checkpoint": {"every": 2}},
        failurePolicy={"stallTimeoutSeconds": 60},
    )
    words = tmp_path / "words"
    words.touch()
    environment = os.environ | {"LORA_SCRATCH": str(tmp_path / "scratch"), "LORA_TERMINATION_LOG": str(words)}
    command = [sys.executable, "-c", HANGS_IN_STEP_4, str(path)]
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == ExitCode.STALLED, ended.stderr
    message = TerminationMessage.model_validate_json(words.read_text())
    assert (message.reason, message.step, message.checkpoint.step) == ("TrainingStalled", 3, 2)
    assert [each.step for each in message.loss_curve if each.loss is not None] == [1, 2, 3]
    assert message.message.startswith("nothing got on for 10")
    assert message.message.endswith(" s, while it was Training")
    assert "spec.failurePolicy.stallTimeoutSeconds" in message.hint
    assert "log.jsonl" in message.hint
    log = s3.get_object(Bucket=bucket, Key="out/team-a/bot/runs/1/log.jsonl")["Body"].read().decode()
    (stacks,) = [line["stacks"] for line in map(json.loads, log.splitlines()) if "stacks" in line]
    assert any(place.endswith(" hang") for place in stacks["MainThread"])
    assert not any("/adapters/" in key for key in keys(s3, bucket))
