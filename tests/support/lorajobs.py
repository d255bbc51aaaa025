"""LoRAJobs as an end-to-end test sees them: applied with kubectl, followed until a condition holds."""

import json
from typing import Any

import yaml

from demo.kubectl import apply, condition, get, items, kubectl
from demo.samples import SAMPLE_JOB
from support.wait import wait_for

END_SECONDS = 400
"""Longest time for a small job on a busy machine of two cores."""


class LoRAJobs:
    """The LoRAJobs of one namespace."""

    def __init__(self, namespace: str, endpoint: str) -> None:
        self.namespace = namespace
        self.endpoint = endpoint

    def sample(self, name: str, **spec: Any) -> dict[str, Any]:
        """Return the sample under a name, for the S3 server of the tests, with parts of its spec replaced."""
        job: dict[str, Any] = yaml.safe_load(SAMPLE_JOB.read_text())
        job["metadata"]["name"] = name
        job["spec"]["storage"]["endpoint"] = self.endpoint
        job["spec"] |= spec
        return job

    def apply(self, job: dict[str, Any]) -> str:
        """Apply a job and return its name."""
        apply(self.namespace, job)
        return str(job["metadata"]["name"])

    def get(self, name: str) -> dict[str, Any]:
        """Return a job."""
        return get(self.namespace, "lorajob", name) or {}

    def children(self, kind: str, name: str, stage: str | None = None) -> list[dict[str, Any]]:
        """Return the Jobs or pods of a job."""
        selector = f"lora-operator.io/job={name}" + (f",lora-operator.io/stage={stage}" if stage else "")
        return items(self.namespace, kind, selector)

    def wait_for(self, name: str, condition_type: str, seconds: float = END_SECONDS) -> dict[str, Any]:
        """Return the job once the condition is True; fail early when the job ends in another way."""
        job = wait_for(
            f"{name}: {condition_type}",
            lambda: self._with_condition(name, {condition_type, "Failed", "Succeeded"}),
            seconds=seconds,
            state=lambda: self.get(name).get("status"),
        )
        assert condition(job, condition_type).get("status") == "True", job["status"]
        return job

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events about a job."""
        return [each for each in items(self.namespace, "events") if each["involvedObject"]["name"] == name]

    def logs(self, name: str) -> str:
        """Return the logs of all pods of a job."""
        return kubectl("-n", self.namespace, "logs", "-l", f"lora-operator.io/job={name}", "--tail=-1")

    def _with_condition(self, name: str, types: set[str]) -> dict[str, Any] | None:
        job = self.get(name)
        return job if any(condition(job, each).get("status") == "True" for each in types) else None


def resumed_steps(s3: Any, status: Any) -> list[int]:
    """Return the steps from which the first run of a job that is done went on, by its log.

    The status may have missed what a short pod said.
    """
    bucket, _, key = status["adapter"]["uri"].removeprefix("s3://").partition("/")
    log = s3.get_object(Bucket=bucket, Key=f"{key.rpartition('/adapters/')[0]}/runs/1/log.jsonl")["Body"].read()
    lines = map(json.loads, log.splitlines())
    return [each["step"] for each in lines if each["message"] == "going on from a checkpoint"]
