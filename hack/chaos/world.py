"""The S3 server, the base model, the data and the job files of a chaos run."""

import json
import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.s3server import S3Server
from support.tiny_models import save_tiny_model

NAMESPACE = "chaos"
_STEPS = 120
_CHECKPOINTS = 12
_ROWS = 60
_WORDS = ("capital", "France", "Paris", "Spain", "Madrid", "hello", "there", "how", "are", "you", "fine", "yes", "no")

VARIANTS: dict[str, dict[str, Any]] = {
    "dropout and evaluation": {"lora": {"rank": 4, "dropout": 0.1}},
    "packing": {"lora": {"rank": 4, "dropout": 0.05}, "training": {"packing": True}},
}
"""Blocks of the spec by which the runs differ."""


@dataclass(frozen=True)
class World:
    """A bucket with all that the jobs need."""

    server: S3Server
    bucket: str
    folder: Path
    s3: Any
    steps: int
    """Optimizer steps of a run."""

    @property
    def environment(self) -> dict[str, str]:
        """What a trainer needs: the keys, and one thread, so that two of them share two cores in peace."""
        return self.server.environment | {"OMP_NUM_THREADS": "1"}

    def write_job(self, name: str, variant: str) -> Path:
        """Write a job file; each job has artifacts of its own."""
        blocks = VARIANTS[variant]
        spec = {
            "baseModel": {"uri": f"s3://{self.bucket}/base"},
            "dataset": {"train": {"uri": f"s3://{self.bucket}/train.jsonl"}, "validation": {"fraction": 0.2}},
            "output": {"uri": f"s3://{self.bucket}/out"},
            "storage": {"endpoint": self.server.endpoint, "pathStyle": True},
            "resources": {"gpus": 0},
        }
        training = {"maxSteps": self.steps, "effectiveBatchSize": 4, "learningRate": 0.003}
        training |= {"checkpoint": {"every": max(1, self.steps // _CHECKPOINTS)}}
        spec |= blocks | {"training": training | blocks.get("training", {})}
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"namespace": NAMESPACE, "name": name, "uid": name, "spec": spec}))
        return path


def make_world(server: S3Server, folder: Path, steps: int = _STEPS) -> World:
    """Fill a new bucket."""
    s3, bucket = server.client(), f"chaos-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=bucket)
    for file in save_tiny_model("llama", folder / "base").iterdir():
        s3.upload_file(str(file), bucket, f"base/{file.name}")
    s3.put_object(Bucket=bucket, Key="train.jsonl", Body="\n".join(map(json.dumps, _rows())).encode())
    return World(server, bucket, folder, s3, steps)


def _rows() -> list[dict[str, Any]]:
    draw = random.Random(0)  # noqa: S311 - the same data each time
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}: " + " ".join(draw.choices(_WORDS, k=6))},
                {"role": "assistant", "content": " ".join(draw.choices(_WORDS, k=draw.randint(2, 20)))},
            ]
        }
        for number in range(_ROWS)
    ]
