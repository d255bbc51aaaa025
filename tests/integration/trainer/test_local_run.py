"""`kubectl lora run`, as a user starts it: a process of its own, the real S3 server, and a tiny model."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from integration.trainer.conftest import keys
from lora_api.artifacts import Manifest, digest_of
from lora_api.exit_codes import ExitCode
from support.wait import wait_for

PROGRAM = [sys.executable, "-m", "lora_cli.main", "run"]


@pytest.fixture
def lorajob(bucket, s3_server, tmp_path):
    """Write the YAML of a LoRAJob. Arguments replace whole blocks of the spec."""

    def write(**blocks):
        spec = {
            "baseModel": {"uri": f"s3://{bucket}/base"},
            "dataset": {"train": {"uri": f"s3://{bucket}/train.jsonl"}, "validation": {"fraction": 0.2}},
            "output": {"uri": f"s3://{bucket}/out"},
            "lora": {"rank": 4},
            "training": {"maxSteps": 4, "effectiveBatchSize": 4, "learningRate": 0.01},
            "storage": {"endpoint": s3_server.endpoint, "pathStyle": True},
            "resources": {"gpus": 1},
        }
        document = {"apiVersion": "lora-operator.io/v1alpha1", "kind": "LoRAJob", "metadata": {"name": "bot"}}
        path = tmp_path / "lorajob.yaml"
        path.write_text(yaml.safe_dump(document | {"spec": spec | blocks}))
        return path

    return write


@pytest.fixture
def start(tmp_path):
    """Start the program on a file; it is ended with the test."""
    started = []

    def run(path, *options):
        command = [*PROGRAM, "-f", str(path), "--cpu", "--work", str(tmp_path / "work"), *options]
        # Unbuffered, so that what a test reads line by line takes nothing from what is left for `communicate`.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=os.environ)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    """Return exit code, stdout and stderr of a run that ends by itself."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out.decode(), err.decode()


def digest_in(out):
    """Return the digest that a run printed."""
    return re.search(r"^digest   (sha256:[0-9a-f]{64})$", out, re.MULTILINE)[1]


def test_the_output_may_be_a_bucket_or_a_folder_and_the_digest_is_the_same(s3, bucket, lorajob, start, tmp_path):
    code, out, err = finish(start(lorajob(), "-n", "team-a"))
    assert code == ExitCode.DONE, err
    digest = digest_in(out)
    prefix = f"out/team-a/bot/adapters/{digest.replace(':', '-')}"
    assert f"{prefix}/manifest.json" in keys(s3, bucket)
    assert f"adapter  s3://{bucket}/{prefix}\n" in out
    assert re.search(r"^metrics  .*evalLoss \d", out, re.MULTILINE)
    assert re.search(r"^preflight: 20 rows, 5 for validation", err, re.MULTILINE)
    assert "bot (train): starting\n" in err

    code, out, err = finish(start(lorajob(), "--output", f"file://{tmp_path}/out"))
    assert code == ExitCode.DONE, err
    assert digest_in(out) == digest
    folder = tmp_path / "out/default/bot/adapters" / digest.replace(":", "-")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert digest_of(manifest.files) == digest
    assert {entry.path for entry in manifest.files} <= {path.name for path in folder.iterdir()}
    assert (tmp_path / "out/default/bot/runs/1/report.json").exists()


def test_the_result_as_json_is_all_that_is_on_stdout(lorajob, start, bucket):
    dataset = {"train": {"uri": f"s3://{bucket}/none.jsonl"}}
    code, out, err = finish(start(lorajob(dataset=dataset), "--output-format", "json"))
    assert code == ExitCode.INPUT_NOT_FOUND
    read = json.loads(out)
    assert (read["exitCode"], read["preflight"]["reason"]) == (66, "InputNotFound")
    assert "train" not in read
    assert err.splitlines()[-1].startswith("kubectl-lora: InputNotFound: spec.dataset.train.uri")


def test_an_error_is_one_line_with_the_fix_and_the_exit_code_of_the_trainer(lorajob, start, tmp_path):
    code, out, err = finish(start(lorajob(output={"uri": "s3://no-such-bucket-at-all"})))
    assert (code, out) == (ExitCode.INPUT_NOT_FOUND, "")
    last = err.splitlines()[-1]
    assert "there is no bucket no-such-bucket-at-all; correct spec.output.uri" in last
    (log,) = re.findall(r"\[log: (.+)\]$", last)
    assert '"command": "preflight"' in Path(log).read_text()


def test_a_trainer_that_dies_without_a_word_is_told(lorajob, start, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\nif 'preflight' in sys.argv: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code, _, err = finish(start(lorajob()))
    assert code == ExitCode.INTERNAL_ERROR
    assert "the trainer was killed by signal 9" in err


def test_ctrl_c_is_passed_on_once_and_the_checkpoint_is_waited_for(lorajob, start, tmp_path):
    training = {"maxSteps": 100_000, "effectiveBatchSize": 4, "learningRate": 0.01}
    process = start(lorajob(training=training), "--output", f"file://{tmp_path}/out")
    log = tmp_path / "work/jobs/default-bot.log"
    wait_for("a step", lambda: log.exists() and '"message": "step"' in log.read_text(), seconds=200)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (ExitCode.INTERRUPTED, ""), err
    assert "kubectl-lora: Interrupted: stopped by SIGINT" in err
    assert list((tmp_path / "out/default/bot/runs/1/checkpoints").glob("step-*/manifest.json"))


def test_a_job_runs_once_at_a_time_on_a_machine(lorajob, start, tmp_path):
    training = {"maxSteps": 100_000}
    first = start(lorajob(training=training), "--output", f"file://{tmp_path}/out")
    first.stderr.readline()
    code, _, err = finish(start(lorajob(training=training), "--output", f"file://{tmp_path}/out"))
    assert code == ExitCode.INVALID_REQUEST
    assert "bot is running here already; wait for it, or use another --work" in err
