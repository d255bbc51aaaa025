"""What a job needs in its namespace, as the demo and the tests make it: the namespace itself and the S3 credentials."""

import os
from typing import Any


def restricted_namespace(name: str) -> dict[str, Any]:
    """Return a namespace that admits restricted pods only."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def s3_credentials(name: str, secret_key: str | None = None) -> dict[str, Any]:
    """Return a Secret with the S3 keys of the environment, or with another secret key."""
    data = {
        "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": secret_key or os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
