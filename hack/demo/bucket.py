"""S3 as the demo and the tests use it: the ordinary boto3 client on the server that the environment names."""

import os
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config


def s3_client() -> Any:
    """Return a client for LORA_S3_ENDPOINT with the AWS_* variables of the environment."""
    return boto3.client(
        "s3",
        endpoint_url=os.environ["LORA_S3_ENDPOINT"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5, "mode": "standard"}),
    )


def make_bucket(s3: Any, name: str) -> None:
    """Create a bucket unless it is there."""
    try:
        s3.create_bucket(Bucket=name)
    except (s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
        return


def put_folder(s3: Any, folder: Path, bucket: str, prefix: str) -> int:
    """Upload the files of a folder that are not there in the same size; return how many were sent."""
    present = {
        item["Key"]: item["Size"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        for item in page.get("Contents", [])
    }
    missing = [
        (path, key)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and present.get(key := f"{prefix}/{path.relative_to(folder)}") != path.stat().st_size
    ]
    for path, key in missing:
        s3.upload_file(str(path), bucket, key)
    return len(missing)
