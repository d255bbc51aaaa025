"""A real S3 server, a tiny model in it, and the trainer's commands as a function."""

import json
import logging
import os
import secrets
import signal
import tempfile
from pathlib import Path
from typing import Any

# One thread: the model is tiny, and threads that wait for each other on a busy machine take minutes for nothing.
# Before torch is imported, which reads it once.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lora_trainer import cli
from lora_trainer.logs import JsonFormatter
from support.s3server import open_s3_server
from unit.trainer.tiny_tokenizer import CHATML, CHATML_SPECIALS, tiny_tokenizer

torch.set_num_threads(1)  # where other tests imported torch before

ANSWERS = ["Paris.", "The capital of Spain is Madrid.", "Yes", "No, thanks. I am fine.", "Hello there, how are you?"]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    with open_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A client; the process has the keys in its environment, as a pod has."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.client()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A folder with a random Llama of two layers and a tokenizer with a ChatML template."""
    folder = tmp_path_factory.mktemp("tiny-base")
    tokenizer = tiny_tokenizer(CHATML, CHATML_SPECIALS, "<|im_end|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def bucket(s3, tiny_base):
    """A bucket with the model under base/ and 25 conversations of mixed length in train.jsonl."""
    name = f"trainer-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=name)
    for file in tiny_base.iterdir():
        s3.upload_file(str(file), name, f"base/{file.name}")
    put_rows(s3, name, conversations(25))
    return name


def conversations(count: int) -> list[dict[str, Any]]:
    """Return rows whose answers have five lengths."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {index}: what is the capital of France?"},
                {"role": "assistant", "content": ANSWERS[index % 5]},
            ]
        }
        for index in range(count)
    ]


def put_rows(s3: Any, bucket: str, rows: list[Any], key: str = "train.jsonl") -> None:
    """Store rows; what is not an object is stored as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    s3.put_object(Bucket=bucket, Key=key, Body="\n".join(lines).encode())


@pytest.fixture
def job(bucket, s3_server, tmp_path):
    """Write a job file. Arguments replace whole blocks of the spec.

    In float32, so that the numbers are those of every machine: Auto takes bfloat16 on CPUs that have it.
    """

    def write(name: str = "bot", **blocks: Any) -> Path:
        spec = {
            "baseModel": {"uri": f"s3://{bucket}/base"},
            "dataset": {"train": {"uri": f"s3://{bucket}/train.jsonl"}, "validation": {"fraction": 0.2}},
            "output": {"uri": f"s3://{bucket}/out"},
            "lora": {"rank": 4},
            "training": {"maxSteps": 6, "effectiveBatchSize": 4, "learningRate": 0.01, "precision": "FP32"},
            "storage": {"endpoint": s3_server.endpoint, "pathStyle": True},
            "resources": {"gpus": 0},
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"namespace": "team-a", "name": name, "uid": "u-1", "spec": spec | blocks}))
        return path

    return write


@pytest.fixture
def lora_trainer(tmp_path, monkeypatch):
    """Run a command in this process: exit code and termination message."""
    messages = []
    monkeypatch.setattr(cli, "leave_last_words", lambda outcome: messages.append(outcome.message))
    monkeypatch.setenv("LORA_SCRATCH", str(tmp_path / "scratch"))
    environment, handlers = dict(os.environ), {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    temporary = tempfile.tempdir

    def run(command: str, path: Path):
        code = cli.run(command, path)
        return code, messages[-1]

    yield run
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = temporary
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each.formatter, JsonFormatter)]:
        root.removeHandler(handler)
        handler.close()


def keys(s3: Any, bucket: str, prefix: str = "out/") -> list[str]:
    """Return the keys below a prefix."""
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]
