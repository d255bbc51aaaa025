"""Every failure that this machine can provoke for real, and what `status.failure` says of it.

All jobs are applied at once and fail beside each other; each test looks at one of them. Where the training itself must
fail, the job skips the preflight, which would notice first.

Not here: a node that is gone, out of GPU memory, a stall (`tests/integration/operator/test_failures.py`, where the part
of the kubelet is played, and `tests/integration/trainer/test_stall.py`); a violation of Pod Security, which our own
pods never are (`tests/unit/operator/test_refusals.py`, with the words of a real one).
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from demo.kubectl import apply, condition, kubectl, run
from demo.objects import restricted_namespace, s3_credentials
from demo.samples import SAMPLE_DATA
from support import hub_server as hub
from support.lorajobs import LoRAJobs, resumed_steps
from support.wait import wait_for

NO_PREFLIGHT = {"preflight": {"enabled": False}}
NEVER_RUNS: dict[str, Any] = {"gpus": 0, "cpu": "10m", "memory": "64Mi"}
"""Room of a pod that waits for ever, so that it takes none from the pods that run."""
ONE_TRY = {"maxFailures": 0}
REFUSED_LABEL = "e2e.example/refused"
GOES_ON = "the job goes on by itself"
SECONDS = 300


@dataclass(frozen=True)
class Case:
    """What of the sample is changed, and what the status then says."""

    change: dict[str, Any]
    reason: str
    exit_code: int | None
    message: list[str]
    hint: list[str]


def credentials(name: str) -> dict[str, Any]:
    storage = {"pathStyle": True, "credentialsSecretRef": {"name": name}}
    return {"storage": storage | {"endpoint": os.environ["LORA_S3_ENDPOINT"]}}


CASES: dict[str, Case] = {
    # It waits for the user, or for the cluster.
    "image": Case(
        {"pod": {"image": "registry.invalid/none:1"}, "resources": NEVER_RUNS, **NO_PREFLIGHT},
        "ImagePullFailed",
        None,
        ["cannot pull its image", "registry.invalid/none:1"],
        ["spec.pod.image", GOES_ON],
    ),
    "gpus": Case(
        {"resources": NEVER_RUNS | {"gpus": 10, "gpuResourceName": "example.com/gpu"}, **NO_PREFLIGHT},
        "Unschedulable",
        None,
        ["example.com/gpu is short on 1 of 1 node"],
        ["spec.resources.gpus (now 10)", "spec.resources.gpuResourceName"],
    ),
    "quota": Case(
        {"resources": NEVER_RUNS | {"gpus": 4}, **NO_PREFLIGHT},
        "QuotaExceeded",
        None,
        ['the quota "gpus"', "requests.nvidia.com/gpu: 4 asked for, 0 of 0 used"],
        ["spec.resources.gpus", "ResourceQuota", GOES_ON],
    ),
    "limit-range": Case(
        {"resources": NEVER_RUNS | {"memory": "100Gi"}, **NO_PREFLIGHT},
        "PodRefused",
        None,
        ["LimitRange", "maximum memory usage per Container is 64Gi, but limit is 100Gi"],
        ["spec.resources.memory", GOES_ON],
    ),
    "policy": Case(
        {"pod": {"labels": {REFUSED_LABEL: "yes"}}, "resources": NEVER_RUNS, **NO_PREFLIGHT},
        "PodRefused",
        None,
        ["ValidatingAdmissionPolicy", "not in this namespace"],
        ["spec.pod", GOES_ON],
    ),
    "account": Case(
        {"scheduling": {"serviceAccountName": "nobody"}, "resources": NEVER_RUNS, **NO_PREFLIGHT},
        "ServiceAccountNotFound",
        None,
        ['ServiceAccount "nobody" does not exist'],
        ["spec.scheduling.serviceAccountName", GOES_ON],
    ),
    "priority": Case(
        {"scheduling": {"priorityClassName": "nobody"}, "resources": NEVER_RUNS, **NO_PREFLIGHT},
        "PodRefused",
        None,
        ['PriorityClass "nobody" does not exist'],
        ["spec.scheduling.priorityClassName", GOES_ON],
    ),
    "claim": Case(
        {"dataset": {"train": {"uri": "pvc://no-claim/train.jsonl"}}, "resources": NEVER_RUNS, **NO_PREFLIGHT},
        "ClaimNotFound",
        None,
        ['PersistentVolumeClaim "no-claim" does not exist'],
        ["spec.dataset.train.uri", GOES_ON],
    ),
    "deadline": Case(
        {
            "resources": NEVER_RUNS | {"gpus": 10, "gpuResourceName": "example.com/gpu"},
            "failurePolicy": {"activeDeadlineSeconds": 10},
            **NO_PREFLIGHT,
        },
        "DeadlineExceeded",
        None,
        ["lasted longer than spec.failurePolicy.activeDeadlineSeconds"],
        ["raise", "from its last checkpoint"],
    ),
    # The preflight finds it.
    "spec": Case(
        {"lora": {"targetModules": ["q_prog"]}},
        "InvalidRequest",
        64,
        ["spec.lora.targetModules", "q_prog"],
        ["starts a new run by itself"],
    ),
    "data": Case(
        {"dataset": {"train": {"uri": "s3://datasets/broken.jsonl"}}},
        "BadData",
        65,
        ["broken.jsonl", "row 17", "messages[1].content"],
        ["starts a new run by itself", "lora-operator.io/restart"],
    ),
    "model": Case(
        {"baseModel": {"uri": "s3://models/no-such-model"}},
        "InputNotFound",
        66,
        ["spec.baseModel.uri", "s3://models/no-such-model"],
        ["starts a new run by itself", "lora-operator.io/restart"],
    ),
    "bucket": Case(
        {"output": {"uri": "s3://no-such-bucket"}},
        "InputNotFound",
        66,
        ["no-such-bucket"],
        ["spec.output.uri", "lora-operator.io/restart"],
    ),
    "credentials": Case(
        credentials("wrong"),
        "NoPermission",
        77,
        ["s3://"],
        ["credentialsSecretRef", "lora-operator.io/restart"],
    ),
    "gated": Case(
        {"baseModel": {"uri": "hf://owner/gated"}},
        "NoPermission",
        77,
        ["hf://owner/gated"],
        ["spec.baseModel.tokenSecretRef"],
    ),
    # The training finds it.
    "memory": Case(
        {"resources": {"gpus": 0, "memory": "150Mi", "cpu": "500m"}, "failurePolicy": ONE_TRY, **NO_PREFLIGHT},
        "OutOfMemory",
        137,
        ["more memory than its limit"],
        ["raise spec.resources.memory", "from its last checkpoint"],
    ),
    "disk": Case(
        {
            "resources": {"gpus": 0, "memory": "4Gi", "scratch": "8Mi", "cpu": "500m"},
            "training": {"maxSteps": 30, "effectiveBatchSize": 54},  # no step ends in the second that eviction leaves
            "failurePolicy": ONE_TRY,
            **NO_PREFLIGHT,
        },
        "DiskFull",
        137,
        ['was evicted: Usage of EmptyDir volume "scratch" exceeds the limit "8Mi"'],
        ["raise spec.resources.scratch", "from its last checkpoint"],
    ),
    "nan": Case(
        {"training": {"maxSteps": 40, "effectiveBatchSize": 1, "learningRate": 1, "warmupRatio": 0}, **NO_PREFLIGHT},
        "Diverged",
        80,
        ["loss"],
        ["spec.training.learningRate", "starts a new run by itself"],
    ),
}


@pytest.fixture(scope="module")
def jobs(s3: Any) -> Iterator[LoRAJobs]:
    """Return the LoRAJobs of a namespace with every rule that a case meets, once all of them are applied."""
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(namespace)))
    apply(namespace, s3_credentials("s3-credentials"), s3_credentials("wrong", "not-the-secret"), *rules(namespace))
    s3.put_object(Bucket="datasets", Key="broken.jsonl", Body=broken_rows())
    wait_for("the policy", lambda: policy_refuses(namespace), seconds=60)
    jobs = LoRAJobs(namespace, os.environ["LORA_S3_ENDPOINT"])
    with gated_hub() as endpoint:
        hub_of_the_test = {"pod": {"env": [{"name": "HF_ENDPOINT", "value": endpoint}]}}
        for name, case in CASES.items():
            jobs.apply(jobs.sample(name, **case.change, **(hub_of_the_test if name == "gated" else {})))
        yield jobs
    kubectl("delete", "namespace", namespace, "--wait=false")
    kubectl("delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", namespace)


def rules(namespace: str) -> list[dict[str, Any]]:
    """Return a quota without GPUs, a LimitRange, and a policy that refuses pods with a label."""
    admission = "admissionregistration.k8s.io/v1"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    refusal = {"expression": f"!('{REFUSED_LABEL}' in object.metadata.labels)", "message": "not in this namespace"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "gpus"},
            "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "memory"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "64Gi"}}]},
        },
        {
            "apiVersion": admission,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": namespace},
            "spec": {"matchConstraints": {"resourceRules": [pods]}, "validations": [refusal]},
        },
        {
            "apiVersion": admission,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": namespace},
            "spec": {
                "policyName": namespace,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
            },
        },
    ]


def policy_refuses(namespace: str) -> bool:
    """Return whether the API server has taken notice of the policy."""
    locked = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "refused", "labels": {REFUSED_LABEL: "yes"}},
        "spec": {"containers": [{"name": "none", "image": "registry.invalid/none:1", "securityContext": locked}]},
    }
    tried = run("-n", namespace, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    return "not in this namespace" in tried.stderr


def broken_rows() -> bytes:
    rows = [json.loads(line) for line in SAMPLE_DATA.read_text().splitlines()]
    del rows[16]["messages"][1]["content"]
    return "\n".join(map(json.dumps, rows)).encode()


class _ReachableServer(ThreadingHTTPServer):
    """A server that pods reach: on the address by which they reach S3."""

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__((_host(), address[1]), handler)


def _host() -> str:
    return urlsplit(os.environ["LORA_S3_ENDPOINT"]).hostname or "127.0.0.1"


@contextmanager
def gated_hub() -> Iterator[str]:
    """Serve a hub with one gated model, and return its address."""
    gated = hub.HubRepository({"config.json": b"{}", "model.safetensors": b""}, gated=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "ThreadingHTTPServer", _ReachableServer)
        with hub.hub_server(models={"owner/gated": gated}) as server:
            yield server.url.replace("127.0.0.1", _host())


def failure_of(jobs: LoRAJobs, name: str, reason: str) -> dict[str, Any]:
    """Return the failure in the status once it has the reason, or the run has ended in another way."""

    def look() -> dict[str, Any] | None:
        job = jobs.get(name)
        failure = job.get("status", {}).get("failure") or {}
        over = any(condition(job, each).get("status") == "True" for each in ("Failed", "Succeeded"))
        return failure if over or failure.get("reason") == reason else None

    return wait_for(f"{name}: {reason}", look, seconds=SECONDS, state=lambda: jobs.get(name).get("status"))


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)
def test_a_failure_is_explained(jobs: LoRAJobs, name: str, case: Case) -> None:
    failure = failure_of(jobs, name, case.reason)

    assert (failure["reason"], failure.get("exitCode")) == (case.reason, case.exit_code), failure
    for words in case.message:
        assert words in failure["message"]
    for words in case.hint:
        assert words in failure["hint"]
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], "not-the-secret"):
        assert secret not in json.dumps(jobs.get(name))


def test_what_the_preflight_finds_is_not_tried_again_and_asks_for_no_gpu(jobs: LoRAJobs) -> None:
    for name in ("spec", "data", "model", "bucket", "credentials", "gated"):
        failure_of(jobs, name, CASES[name].reason)
        assert len(jobs.children("pods", name)) == 1, name
        assert jobs.children("jobs", name, "train") == [], name


def test_what_waits_goes_on_when_the_spec_is_corrected(jobs: LoRAJobs) -> None:
    failure_of(jobs, "account", "ServiceAccountNotFound")
    corrected = CASES["account"].change | {"scheduling": {}, "pod": {"image": "registry.invalid/none:2"}}
    jobs.apply(jobs.sample("account", **corrected))

    failure = failure_of(jobs, "account", "ImagePullFailed")

    assert "registry.invalid/none:2" in failure["message"], "another pod, of the corrected spec"
    assert jobs.get("account")["status"]["run"] == 1, "no new run: the adapter is the same"


def test_a_missing_secret_heals_when_it_is_made(jobs: LoRAJobs) -> None:
    change = credentials("forgotten") | {"training": {"maxSteps": 1, "effectiveBatchSize": 1}}
    jobs.apply(jobs.sample("secret", **change))

    failure = failure_of(jobs, "secret", "SecretNotFound")

    assert 'Secret "forgotten" does not exist' in failure["message"]
    assert "spec.storage.credentialsSecretRef" in failure["hint"]
    (pod,) = jobs.children("pods", "secret")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0

    apply(jobs.namespace, s3_credentials("forgotten"))
    jobs.wait_for("secret", "PreflightPassed", seconds=180)
    job = jobs.get("secret")
    assert condition(job, "Stalled").get("status") != "True"
    kubectl("-n", jobs.namespace, "delete", "lorajob", "secret", "--wait=false")


def test_a_pod_that_a_user_deletes_is_a_disruption_and_the_run_goes_on(s3: Any, jobs: LoRAJobs) -> None:
    training = {"maxSteps": 14, "effectiveBatchSize": 16}
    name = jobs.apply(jobs.sample("interrupted", training=training, **NO_PREFLIGHT))
    wait_for(
        "a finished step", lambda: jobs.get(name).get("status", {}).get("progress", {}).get("step"), seconds=SECONDS
    )
    (pod,) = jobs.children("pods", name, "train")
    kubectl("-n", jobs.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false")

    status = jobs.wait_for(name, "Succeeded")["status"]

    assert (status["attempts"]["failures"], status["attempts"]["disruptions"]) == (0, 1)
    assert resumed_steps(s3, status)[-1] >= 1
    assert status["run"] == 1
    assert "failure" not in status
