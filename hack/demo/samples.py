"""The sample job, its data and its base model, and how they get into S3."""

from pathlib import Path
from typing import Any

from demo.bucket import make_bucket, put_folder
from demo.model import MODEL_NAME, exported_model

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"
SAMPLE_JOB = SAMPLES / "lorajob.yaml"
SAMPLE_DATA = SAMPLES / "data" / "support.jsonl"


def fill_buckets(s3: Any) -> int:
    """Put base model and data into the buckets that the sample names; return how many model files were sent."""
    for bucket in ("models", "datasets", "adapters"):
        make_bucket(s3, bucket)
    s3.upload_file(str(SAMPLE_DATA), "datasets", SAMPLE_DATA.name)
    return put_folder(s3, exported_model(), "models", MODEL_NAME)
