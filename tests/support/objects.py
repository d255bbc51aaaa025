"""The objects of one namespace, and the parts of a cluster that tests play: Job controller, kubelet, scheduler."""

import json
from datetime import UTC, datetime
from typing import Any

from kubernetes.dynamic.exceptions import NotFoundError

from lora_api.messages import TerminationMessage
from support.apiserver import ApiServer
from support.samples import PREFLIGHT_DONE, TRAIN_DONE
from support.wait import wait_for

Document = dict[str, Any]

_API_VERSIONS = {
    "LoRAJob": "lora-operator.io/v1alpha1",
    "LoRAAdapter": "lora-operator.io/v1alpha1",
    "Job": "batch/v1",
}


class Objects:
    """Reads and writes objects as plain documents."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self._client = server.client()

    def _resource(self, kind: str) -> Any:
        return self._client.resources.get(api_version=_API_VERSIONS.get(kind, "v1"), kind=kind)

    def get(self, kind: str, name: str) -> Document | None:
        """Return an object, or None."""
        try:
            found: Document = self._resource(kind).get(name=name, namespace=self.namespace).to_dict()
        except NotFoundError:
            return None
        return found

    def list(self, kind: str) -> list[Document]:
        """Return all objects of a kind."""
        found: list[Document] = self._resource(kind).get(namespace=self.namespace).to_dict()["items"]
        return found

    def create(self, document: Document) -> Document:
        """Create an object."""
        resource = self._resource(document["kind"])
        namespace = self.namespace if document["kind"] != "Namespace" else None
        created: Document = resource.create(body=document, namespace=namespace).to_dict()
        return created

    def patch(self, kind: str, name: str, change: Document) -> None:
        """Change an object by a merge patch."""
        content = "application/merge-patch+json"
        self._resource(kind).patch(body=change, name=name, namespace=self.namespace, content_type=content)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and wait until it is gone, even if another takes its name at once.

        Nothing here collects what it owned.
        """
        uid = self.wait(kind, name)["metadata"]["uid"]
        options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        self._resource(kind).delete(name=name, namespace=self.namespace, body=options)
        self.server.run_kubectl("patch", kind, name, "-n", self.namespace, "--type=merge", "-p", _NO_FINALIZERS)
        wait_for(f"{kind} {name} is gone", lambda: (self.get(kind, name) or _NOTHING)["metadata"]["uid"] != uid)

    def collect(self, job_name: str, *, seconds: float = 30.0) -> None:
        """Play the garbage collector for a Job that is deleted in the foreground: first its pods, then the Job."""
        wait_for(f"Job {job_name} is being deleted", lambda: self._is_going(job_name), seconds=seconds)
        uid = self.wait("Job", job_name)["metadata"]["uid"]
        for pod in self.list("Pod"):
            if uid in [each["uid"] for each in pod["metadata"].get("ownerReferences") or []]:
                self.delete("Pod", pod["metadata"]["name"])
        self.server.run_kubectl("patch", "job", job_name, "-n", self.namespace, "--type=merge", "-p", _NO_FINALIZERS)

    def _is_going(self, job_name: str) -> bool:
        return "deletionTimestamp" in (self.get("Job", job_name) or _NOTHING)["metadata"]

    def set_status(self, kind: str, name: str, status: Document) -> None:
        """Write the status of an object, as its controller does."""
        content = "application/merge-patch+json"
        self._resource(kind).status.patch(
            body={"status": status}, name=name, namespace=self.namespace, content_type=content
        )

    def wait(self, kind: str, name: str, *, seconds: float = 30.0) -> Document:
        """Return an object as soon as it exists."""
        return wait_for(f"{kind} {name}", lambda: self.get(kind, name), seconds=seconds)

    def wait_for_condition(self, name: str, kind: str, status: str, *, seconds: float = 30.0) -> Document:
        """Return a LoRAJob as soon as a condition of it has a status."""

        def look() -> Document | None:
            job = self.get("LoRAJob", name)
            return job if job and condition(job, kind).get("status") == status else None

        return wait_for(f"LoRAJob {name} has {kind}={status}", look, seconds=seconds)

    def start_pod(self, job_name: str, number: int = 1, *, running: bool = True) -> Document:
        """Make a pod of a Job, as the Job controller, the scheduler and the kubelet would."""
        job = self.wait("Job", job_name)
        pod = self.create(_pod_of(job, f"{job_name}-{number}"))
        if running:
            state = {"running": {"startedAt": _now()}}
            self.set_status("Pod", pod["metadata"]["name"], _pod_status("Running", state))
        return pod

    def set_pod_state(self, name: str, phase: str, state: Document) -> None:
        """Say in which state the container of a pod is, as the kubelet does."""
        self.set_status("Pod", name, _pod_status(phase, state))

    def end_pod(self, name: str, exit_code: int, message: TerminationMessage | None = None, reason: str = "") -> None:
        """End the container of a pod."""
        text = message.encode().decode() if message else ""
        ended = {
            "exitCode": exit_code,
            "reason": reason or ("Completed" if exit_code == 0 else "Error"),
            "message": text,
            "startedAt": _now(),
            "finishedAt": _now(),
        }
        phase = "Succeeded" if exit_code == 0 else "Failed"
        self.set_status("Pod", name, _pod_status(phase, {"terminated": ended}))

    def complete_job(self, name: str) -> None:
        """Mark a Job as complete."""
        conditions = [_condition("SuccessCriteriaMet", "CompletionsReached"), _condition("Complete", "Completed")]
        ended = {"startTime": _now(), "completionTime": _now(), "succeeded": 1, "conditions": conditions}
        self.set_status("Job", name, ended)

    def fail_job(self, name: str, reason: str = "BackoffLimitExceeded") -> None:
        """Mark a Job as failed."""
        conditions = [_condition("FailureTarget", reason), _condition("Failed", reason)]
        self.set_status("Job", name, {"startTime": _now(), "failed": 1, "conditions": conditions})

    def run_to_success(self, name: str) -> Document:
        """Play a whole run of a LoRAJob that exists."""
        preflight, train = f"{name}-1-preflight", f"{name}-1-train"
        pod = self.start_pod(preflight)
        self.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
        self.complete_job(preflight)
        pod = self.start_pod(train)
        self.wait_for_condition(name, "Running", "True")
        self.end_pod(pod["metadata"]["name"], 0, TRAIN_DONE)
        self.complete_job(train)
        return self.wait_for_condition(name, "Succeeded", "True")


_NOTHING: Document = {"metadata": {"uid": ""}}
_NO_FINALIZERS = json.dumps({"metadata": {"finalizers": None}})


def condition(document: Document, kind: str) -> Document:
    """Return a condition of an object; empty if it has none of the kind."""
    found = document.get("status", {}).get("conditions") or []
    return next((dict(each) for each in found if each["type"] == kind), {})


def _pod_of(job: Document, name: str) -> Document:
    template = job["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
    owner |= {"name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    metadata = {"name": name, "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"] | {"nodeName": "node-1"},
    }


def _pod_status(phase: str, state: Document) -> Document:
    return {
        "phase": phase,
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {"name": "trainer", "state": state, "ready": False, "restartCount": 0, "image": "", "imageID": ""}
        ],
    }


def _condition(kind: str, reason: str) -> Document:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": reason,
        "lastProbeTime": _now(),
        "lastTransitionTime": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
