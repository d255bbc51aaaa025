"""The promise of the project: `kubectl apply -f lorajob.yaml` ends with a verified adapter in S3 and a LoRAAdapter."""

import hashlib
import os
from pathlib import Path
from typing import Any

from demo.answers import answers, fetch_folder
from demo.kubectl import condition, get, kubectl
from lora_api.artifacts import MANIFEST_NAME, Manifest, digest_of
from support.lorajobs import LoRAJobs
from support.wait import wait_for

TOLD = {"PreflightSucceeded", "Training", "AdapterPublished"}


def test_a_job_ends_with_a_verified_adapter_that_changes_the_answers(s3: Any, jobs: LoRAJobs, tmp_path: Path) -> None:
    name = jobs.apply(jobs.sample("support-bot"))

    wait_for(
        "a finished step in the status",
        lambda: jobs.get(name).get("status", {}).get("progress", {}).get("step"),
        seconds=300,
    )
    job = jobs.wait_for(name, "Succeeded")

    status = job["status"]
    assert (status["phase"], status["run"]) == ("Succeeded", 1)
    assert status["observedGeneration"] == job["metadata"]["generation"]
    assert all(each["reason"] and each["observedGeneration"] for each in status["conditions"])
    assert status["resolved"]["rows"] + status["resolved"]["validationRows"] == 60
    assert status["progress"]["percent"] == 100

    adapter = wait_for("the LoRAAdapter", lambda: get(jobs.namespace, "loraadapter", name))
    source = adapter["spec"]["source"]
    assert (source["uri"], source["digest"]) == (status["adapter"]["uri"], status["adapter"]["digest"])
    assert adapter["spec"]["servedName"] == name
    assert "ownerReferences" not in adapter["metadata"]

    folder = fetch_folder(s3, source["uri"], tmp_path / "adapter")
    manifest = _verified(folder, source["digest"])
    assert manifest.job.uid == job["metadata"]["uid"]
    assert (
        manifest.base_model.revision == adapter["spec"]["baseModel"]["revision"] == status["resolved"]["baseRevision"]
    )
    assert manifest.metrics["evalLoss"] < manifest.metrics["baseEvalLoss"]

    base = fetch_folder(s3, job["spec"]["baseModel"]["uri"], tmp_path / "base")
    said = answers(base, folder, "Hello, how do I return a parcel?")
    assert "Leaf & Kettle" in said.adapted
    assert "Leaf & Kettle" not in said.base

    for stage in ("preflight", "train"):
        assert len(jobs.children("jobs", name, stage)) == len(jobs.children("pods", name, stage)) == 1
    wait_for("its events", lambda: {event["reason"] for event in jobs.events(name)} >= TOLD)
    _nothing_secret_is_shown(jobs, name)
    _the_operator_left_the_object_alone(job)


def _verified(folder: Path, digest: str) -> Manifest:
    """Return the manifest of a downloaded adapter after checking every byte, without what the product has for that."""
    manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    for entry in manifest.files:
        assert hashlib.sha256((folder / entry.path).read_bytes()).hexdigest() == entry.sha256, entry.path
    assert digest_of(manifest.files) == manifest.digest == digest
    return manifest


def _nothing_secret_is_shown(jobs: LoRAJobs, name: str) -> None:
    shown = jobs.logs(name) + kubectl("-n", jobs.namespace, "get", "lorajob,job,pod,events,configmap", "-o", "yaml")
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in shown
    assert "How do I return a parcel" not in shown, "a row of the user's data"


def _the_operator_left_the_object_alone(job: dict[str, Any]) -> None:
    assert "finalizers" not in job["metadata"]
    assert not [key for key in job["metadata"].get("annotations", {}) if "kopf" in key]
    assert condition(job, "Failed").get("status") != "True"
