"""What the API server refuses: which rule of the namespace it was, what it wants, and which field gives it.

The messages were copied from a cluster of version 1.36; those of a webhook that refuses and of quotas that are new
or missing come from its source.
"""

import pytest

from lora_operator.domain.errors import RefusedError
from lora_operator.domain.refusals import explain_refusal
from lora_operator.domain.waiting import blocked
from support.failures import BY_ITSELF, assert_words, job, spec
from support.world import ended

CREATING = 'Error creating: pods "support-bot-1-train-" is forbidden: '
SILENT = (
    'Error creating: Internal error occurred: failed calling webhook "pods.policy.example": failed to call webhook: '
    'Post "https://127.0.0.1:1/x?timeout=2s": dial tcp 127.0.0.1:1: connect: connection refused'
)
JOBS = (
    'jobs.batch "x" is forbidden: exceeded quota: team, requested: count/jobs.batch=1, '
    "used: count/jobs.batch=5, limited: count/jobs.batch=5"
)
NO_RIGHT = (
    'jobs.batch is forbidden: User "system:serviceaccount:lora-system:lora-operator" cannot create resource '
    '"jobs" in API group "batch" in the namespace "team-a"'
)
REFUSED: dict[str, tuple[str, str, list[str], list[str]]] = {
    "a missing ServiceAccount": (
        CREATING + 'error looking up service account team-a/missing: serviceaccount "missing" not found',
        "ServiceAccountNotFound",
        ['ServiceAccount "missing" does not exist'],
        ['create ServiceAccount "missing"', "spec.scheduling.serviceAccountName"],
    ),
    "a missing PriorityClass": (
        CREATING + "no PriorityClass with name missing was found",
        "PodRefused",
        ['PriorityClass "missing" does not exist'],
        ["spec.scheduling.priorityClassName"],
    ),
    "a missing RuntimeClass": (
        CREATING + 'pod rejected: RuntimeClass "missing" not found',
        "PodRefused",
        ['RuntimeClass "missing" does not exist'],
        ["spec.scheduling.runtimeClassName"],
    ),
    "a quota on GPUs and memory": (
        CREATING + "exceeded quota: gpus, requested: requests.memory=2Gi,requests.nvidia.com/gpu=4, "
        "used: requests.memory=0,requests.nvidia.com/gpu=6, limited: requests.memory=1Gi,requests.nvidia.com/gpu=8",
        "QuotaExceeded",
        [
            'the quota "gpus"',
            "requests.nvidia.com/gpu: 4 asked for, 6 of 8 used",
            "requests.memory: 2Gi asked for, 0 of 1Gi used",
        ],
        ["spec.resources.memory and spec.resources.gpus", "wait until other jobs have ended", "ResourceQuota"],
    ),
    "a quota on pods": (
        CREATING + "exceeded quota: team, requested: pods=1, used: pods=9, limited: pods=9",
        "QuotaExceeded",
        ['the quota "team"', "pods: 1 asked for, 9 of 9 used"],
        ["wait until other jobs have ended"],
    ),
    "a quota that wants to be asked": (
        CREATING + "failed quota: gpus: must specify limits.cpu for: trainer",
        "QuotaExceeded",
        ['the quota "gpus"', "must specify limits.cpu for: trainer"],
        ["spec.resources.cpu", "LimitRange"],
    ),
    "a quota that is new": (
        CREATING + "status unknown for quota: gpus, resources: requests.nvidia.com/gpu",
        "QuotaExceeded",
        ['the quota "gpus"', "being counted"],
        ["wait a moment"],
    ),
    "a quota that must be there": (
        CREATING + "insufficient quota to consume: requests.nvidia.com/gpu",
        "QuotaExceeded",
        ["covers requests.nvidia.com/gpu, and there is none"],
        ["have a ResourceQuota for it made"],
    ),
    "a LimitRange": (
        CREATING + "[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi, "
        "but limit is 4Gi]",
        "PodRefused",
        ["LimitRange", "maximum memory usage per Container is 1Gi, but limit is 4Gi"],
        ["spec.resources.cpu and spec.resources.memory"],
    ),
    "Pod Security": (
        CREATING
        + 'violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true), privileged (container '
        '"trainer" must not set securityContext.privileged=true)',
        "PodRefused",
        [
            "Pod Security level restricted:latest of the namespace",
            "hostNetwork=true",
            "securityContext.privileged=true",
        ],
        ["admission webhook", "pod-security.kubernetes.io/enforce"],
    ),
    "a ValidatingAdmissionPolicy": (
        CREATING + "ValidatingAdmissionPolicy 'cost' with binding 'cost' denied request: every pod needs the label "
        "cost-center",
        "PodRefused",
        ["ValidatingAdmissionPolicy cost", "every pod needs the label cost-center"],
        ["spec.pod"],
    ),
    "a webhook that refuses": (
        'Error creating: admission webhook "pods.policy.example" denied the request: no team label',
        "PodRefused",
        ['"pods.policy.example"', "no team label"],
        ["spec.pod"],
    ),
    "a webhook that does not answer": (
        SILENT,
        "PodRefused",
        ['"pods.policy.example" does not answer', "connection refused"],
        ["have the webhook repaired"],
    ),
    "anything else": (CREATING + "bad luck", "PodRefused", ["The pod was refused: bad luck"], ["spec.pod"]),
}


@pytest.mark.parametrize(("message", "reason", "words", "hint"), REFUSED.values(), ids=REFUSED)
def test_a_pod_that_is_refused(message: str, reason: str, words: list[str], hint: list[str]) -> None:
    stall = blocked(job(failed_create=message), spec())
    assert stall is not None
    assert stall.reason == reason
    assert_words(stall.as_failure(), words, [*hint, BY_ITSELF])


def test_the_pod_after_a_disruption_may_be_refused_too() -> None:
    stall = blocked(job(ended(75), failed_create=CREATING + "no PriorityClass with name missing was found"), spec())
    assert stall is not None
    assert stall.reason == "PodRefused"


@pytest.mark.parametrize(
    ("status", "message", "reason", "words"),
    [
        (
            403,
            JOBS,
            "QuotaExceeded",
            ["Job x", "count/jobs.batch: 1 asked for, 5 of 5 used"],
        ),
        (
            403,
            NO_RIGHT,
            "PodRefused",
            ["the operator may not create jobs"],
        ),
        (400, 'admission webhook "jobs.example" denied the request: no', "PodRefused", ['"jobs.example": no']),
        (403, "not today", "PodRefused", ["Job x was refused: not today"]),
        (
            422,
            'Job.batch "x" is invalid: spec.template.labels: Invalid value: "not a label!"',
            "InvalidSpec",
            ["not a label!"],
        ),
    ],
    ids=["quota", "RBAC", "webhook", "forbidden", "invalid"],
)
def test_an_object_that_is_refused(status: int, message: str, reason: str, words: list[str]) -> None:
    stall = explain_refusal(RefusedError(status=status, subject="Job x", message=message))
    assert stall.reason == reason
    assert stall.hint
    assert_words(stall.as_failure(), words, [])


def test_a_long_refusal_is_cut() -> None:
    long = 'admission webhook "scan.example" denied the request: ' + "CVE-2026-0001 " * 1000
    message = explain_refusal(RefusedError(status=403, subject="Job x", message=long)).message
    assert len(message) < 2000
    assert message.endswith("…")
