"""Pods that cannot start without the user: what is missing, and the field or object that gives it.

The messages were copied from a cluster of version 1.36; that of a private image from the source of containerd.
"""

from dataclasses import replace

import pytest

from lora_operator.domain.observed import PodView
from lora_operator.domain.waiting import blocked
from support.failures import BY_ITSELF, assert_words, job, of_index, spec
from support.world import pod, waiting

NOT_THERE = (
    'Back-off pulling image "host/none:1": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack '
    'image "host/none:1": failed to resolve reference "host/none:1": host/none:1: not found'
)
NO_HOST = (
    'Back-off pulling image "registry.invalid/none:1": ErrImagePull: failed to pull and unpack image '
    '"registry.invalid/none:1": failed to resolve reference "registry.invalid/none:1": failed to do request: Head '
    '"https://registry.invalid/v2/none/manifests/1": dial tcp: lookup registry.invalid: no such host'
)
NO_LOGIN = (
    'failed to pull and unpack image "host/private:1": failed to resolve reference "host/private:1": pull access '
    "denied, repository does not exist or may require authorization: server message: insufficient_scope"
)
NO_NAME = (
    'Failed to apply default image tag "Bad Image": couldn\'t parse image name "Bad Image": invalid reference format: '
    "repository name (library/Bad Image) must be lowercase"
)
SIGNED = 'Get "https://user:pass-word@blobs.example/x?X-Amz-Signature=0123": dial tcp: i/o timeout'
OWN_IMAGE = {"pod": {"image": "host/none:1"}}
CLAIM = '0/1 nodes are available: persistentvolumeclaim "data" not found. not found'
DYING_CLAIM = '0/1 nodes are available: persistentvolumeclaim "data" is being deleted.'
HALF_SECRET = "couldn't find key AWS_ACCESS_KEY_ID in Secret team-a/half"
ROOT = 'container\'s runAsUser breaks non-root policy (pod: "root_team-a(40090086)", container: trainer)'
NO_COMMAND = 'failed to generate container "4a" spec: failed to generate spec: no command specified'
BLOCKED: dict[str, tuple[PodView, dict[str, object], str, list[str], list[str]]] = {
    "no such image": (
        waiting("ImagePullBackOff", NOT_THERE),
        OWN_IMAGE,
        "ImagePullFailed",
        ["host/none:1: not found"],
        ["correct spec.pod.image: the registry has no such name or tag"],
    ),
    "no such registry": (
        waiting("ErrImagePull", NO_HOST),
        OWN_IMAGE,
        "ImagePullFailed",
        ["no such host"],
        ["check that the nodes reach the registry", "spec.pod.image"],
    ),
    "a private image": (
        waiting("ErrImagePull", NO_LOGIN),
        OWN_IMAGE,
        "ImagePullFailed",
        ["pull access denied"],
        ["kubernetes.io/dockerconfigjson", "spec.pod.imagePullSecrets"],
    ),
    "a misspelt image": (
        waiting("InvalidImageName", NO_NAME),
        OWN_IMAGE,
        "ImagePullFailed",
        ["must be lowercase"],
        ["correct the spelling of spec.pod.image"],
    ),
    "the operator's own image": (
        waiting("ImagePullBackOff", NOT_THERE),
        {},
        "ImagePullFailed",
        ["not found"],
        ["the operator's own trainer image", "LORA_TRAINER_IMAGE", "spec.pod.image may name another"],
    ),
    "an address with a key in it": (
        waiting("ErrImagePull", SIGNED),
        OWN_IMAGE,
        "ImagePullFailed",
        ["https://…@blobs.example/x?…"],
        ["reach the registry"],
    ),
    "a missing Secret": (
        waiting("CreateContainerConfigError", 'secret "forgotten" not found'),
        {"storage": {"credentialsSecretRef": {"name": "forgotten"}}},
        "SecretNotFound",
        ['Secret "forgotten" does not exist'],
        ['create Secret "forgotten" with AWS_ACCESS_KEY_ID', "spec.storage.credentialsSecretRef.name"],
    ),
    "a Secret without its key": (
        waiting("CreateContainerConfigError", HALF_SECRET),
        {"storage": {"credentialsSecretRef": {"name": "half"}}},
        "SecretNotFound",
        ['Secret "half" has no key AWS_ACCESS_KEY_ID'],
        ["spec.storage.credentialsSecretRef.name"],
    ),
    "a missing token": (
        waiting("CreateContainerConfigError", 'secret "hub" not found'),
        {"baseModel": {"uri": "hf://owner/gated", "tokenSecretRef": {"name": "hub", "key": "token"}}},
        "SecretNotFound",
        ['Secret "hub"'],
        ["with the key token", "spec.baseModel.tokenSecretRef"],
    ),
    "a missing claim of the data": (
        pod(node="", unschedulable=CLAIM),
        {"dataset": {"train": {"uri": "pvc://data/train.jsonl"}}},
        "ClaimNotFound",
        ['PersistentVolumeClaim "data" does not exist'],
        ['create PersistentVolumeClaim "data"', "spec.dataset.train.uri"],
    ),
    "a missing claim of the cache": (
        pod(node="", unschedulable=CLAIM),
        {"baseModel": {"uri": "hf://owner/name", "cacheClaimName": "data"}},
        "ClaimNotFound",
        ['"data"'],
        ["spec.baseModel.cacheClaimName"],
    ),
    "a claim that goes": (
        pod(node="", unschedulable=DYING_CLAIM),
        {"baseModel": {"uri": "pvc://data/base"}},
        "ClaimNotFound",
        ['"data" is being deleted'],
        ["spec.baseModel.uri"],
    ),
    "a user that the image may not have": (
        waiting("CreateContainerConfigError", ROOT),
        {},
        "PodRefused",
        ["breaks non-root policy"],
        ["spec.pod.image"],
    ),
    "an image without a command": (
        waiting("CreateContainerError", NO_COMMAND),
        {},
        "PodRefused",
        ["no command specified"],
        ["spec.pod.image"],
    ),
}


@pytest.mark.parametrize(("pod", "changes", "reason", "message", "hint"), BLOCKED.values(), ids=BLOCKED)
def test_a_pod_that_waits_for_the_user(
    pod: PodView, changes: dict[str, object], reason: str, message: list[str], hint: list[str]
) -> None:
    stall = blocked(job(pod), spec(**changes))
    assert stall is not None
    assert stall.reason == reason
    assert_words(stall.as_failure(), message, [*hint, BY_ITSELF])
    assert "pass-word" not in stall.message
    assert "0123" not in stall.message


def test_any_of_several_pods_may_wait_for_the_user() -> None:
    stuck = of_index(1, waiting("ErrImagePull", NOT_THERE))
    assert blocked(job(of_index(0, pod(phase="Running", running=True)), stuck), spec()) is not None
    healed = replace(stuck, created="2026-01-02T09:00:00Z", waiting_reason="", running=True)
    assert blocked(job(stuck, healed), spec()) is None


@pytest.mark.parametrize("why", ["ContainerCreating", "PodInitializing", ""])
def test_a_pod_that_only_starts_waits_for_nobody(why: str) -> None:
    assert blocked(job(waiting(why)), spec()) is None
    assert blocked(job(pod(node="", unschedulable="0/1 nodes are available: 1 Too many pods.")), spec()) is None


def test_a_pod_that_was_taken_away_waits_for_nobody() -> None:
    assert blocked(job(replace(waiting("ErrImagePull", NOT_THERE), phase="Failed", disrupted=True)), spec()) is None
