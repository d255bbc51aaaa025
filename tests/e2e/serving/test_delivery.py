"""A LoRAAdapter reaches running pods, changes in them and leaves them, and none of them is restarted for it.

The operator, the webhook, the agents, S3 and the pods are real. The engine is played: it lists, loads and refuses as
vLLM does, and answers with the SHA-256 of the weights it has read, so that an answer says which version gave it. The
same on the real engine: `test_vllm.py`.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from demo.kubectl import apply, condition, get, kubectl, run
from e2e.serving.adapters import CONFIG_NAME, Adapter, make_adapter, truncate_weights, upload
from e2e.serving.objects import (
    BASE_NAME,
    BASE_URI,
    CREDENTIALS,
    fake_deployment,
    fake_engine_program,
    lora_adapter,
)
from e2e.serving.pods import EnginePods
from lora_api.names import (
    ADAPTERS_ANNOTATION,
    AGENT_CONTAINER,
    INJECT_LABEL,
    SECRETS_ANNOTATION,
)
from support.wait import wait_for

Document = dict[str, Any]

NAMES = ("fresh", "moving", "broken", "kept", "leaving", "plain", "known")
"""One LoRAAdapter a test, all of them on the same pods. None exists when the pods start but the last."""
DELIVERY_SECONDS = 60
"""From the change of a LoRAAdapter until every pod answers with it: some 4 s, and a busy machine takes longer."""
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


class Adapters:
    """The LoRAAdapters of the namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def apply(self, name: str, uri: str, digest: str | None, **spec: Any) -> None:
        """Apply a LoRAAdapter over a folder."""
        source = {"digest": digest} if digest else {}
        apply(self.namespace, lora_adapter(name, uri, BASE_URI, source=source, **spec))

    def get(self, name: str) -> Document:
        """Return a LoRAAdapter."""
        return get(self.namespace, "loraadapter", name) or {}

    def wait_for(self, name: str, kind: str, status: str, *, reason: str = "", seconds: float = 60) -> Document:
        """Return the LoRAAdapter as soon as a condition of it has a status, and the reason if one is meant."""

        def look() -> Document | None:
            seen = self.get(name)
            found = condition(seen, kind)
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            return seen if fits else None

        what = f"LoRAAdapter {name}: {kind}={status} {reason}"
        return wait_for(what, look, seconds=seconds, state=lambda: self.get(name).get("status"))


@pytest.fixture(scope="module")
def adapters(serving_namespace: str) -> Adapters:
    return Adapters(serving_namespace)


@pytest.fixture(scope="module")
def pods(s3: Any, serving_namespace: str, adapters: Adapters) -> EnginePods:
    """Return two ready pods of the played engine. One LoRAAdapter is there before them."""
    apply(serving_namespace, fake_engine_program())
    known = make_adapter(100)
    adapters.apply("known", upload(s3, known, f"s3://adapters/{serving_namespace}/known"), known.digest)
    pods = EnginePods(serving_namespace, "engine")
    pods.apply(fake_deployment("engine", ",".join(NAMES)), seconds=120)
    return pods


def wait_until_served(
    pods: EnginePods, adapters: Adapters, name: str, adapter: Adapter, seconds: float = DELIVERY_SECONDS
) -> None:
    """Wait until every pod lists the version and answers with its bytes."""
    wait_for(
        f"{adapter.digest} of {name} in every pod",
        lambda: pods.all_list(name, adapter.digest),
        seconds=seconds,
        state=lambda: (pods.listed(), adapters.get(name).get("status")),
    )
    assert pods.answers(name, "Who are you?") == [adapter.weights_sha256] * 2


def test_an_adapter_that_was_there_before_the_pods_is_served(pods: EnginePods, adapters: Adapters) -> None:
    status = adapters.wait_for("known", "Ready", "True")["status"]
    assert pods.all_list("known", make_adapter(100).digest)
    assert (status["desiredPods"], status["readyPods"], status["servedPods"]) == (2, 2, "2/2")
    assert {each["name"]: each["state"] for each in status["pods"]} == dict.fromkeys(pods.names(), "Served")


def test_a_new_pod_is_ready_only_when_it_serves_what_the_others_serve(pods: EnginePods) -> None:
    pods.replace(pods.names()[0])
    wait_for("two ready pods", lambda: pods.ready() == 2, seconds=60, state=pods.describe)
    assert pods.all_list("known", make_adapter(100).digest)


def test_a_new_adapter_is_served_by_running_pods_within_seconds(
    s3: Any, pods: EnginePods, adapters: Adapters, folder: Callable[[str], str]
) -> None:
    before, adapter = pods.lives(), make_adapter(1)
    adapters.apply("fresh", upload(s3, adapter, folder("v1")), adapter.digest)
    wait_until_served(pods, adapters, "fresh", adapter)
    assert pods.answers(BASE_NAME, "Who are you?") == [BASE_NAME] * 2
    assert adapters.wait_for("fresh", "Ready", "True")["status"]["digest"] == adapter.digest
    assert pods.lives() == before


def test_another_digest_replaces_the_one_before_and_going_back_is_the_same(
    s3: Any, pods: EnginePods, adapters: Adapters, folder: Callable[[str], str]
) -> None:
    before, first, second = pods.lives(), make_adapter(2), make_adapter(3)
    folders = {each.digest: upload(s3, each, folder(each.digest[-8:])) for each in (first, second)}
    for adapter in (first, second, first):
        adapters.apply("moving", folders[adapter.digest], adapter.digest)
        wait_until_served(pods, adapters, "moving", adapter)
        adapters.wait_for("moving", "Ready", "True")
    status = adapters.get("moving")["status"]
    assert (status["digest"], status["previousDigest"]) == (first.digest, second.digest)
    assert pods.lives() == before


def test_what_is_broken_in_s3_is_not_served_and_the_version_before_stays(
    s3: Any, pods: EnginePods, adapters: Adapters, folder: Callable[[str], str]
) -> None:
    before, good, broken = pods.lives(), make_adapter(4), make_adapter(5)
    adapters.apply("broken", upload(s3, good, folder("good")), good.digest)
    wait_until_served(pods, adapters, "broken", good)
    adapters.wait_for("broken", "Ready", "True")

    truncate_weights(s3, upload(s3, broken, folder("broken")))
    adapters.apply("broken", folder("broken"), broken.digest)
    degraded = adapters.wait_for("broken", "Degraded", "True", reason="DigestMismatch")

    assert "adapter_model.safetensors" in condition(degraded, "Degraded")["message"]
    assert pods.all_list("broken", good.digest)
    assert pods.answers("broken", "Who are you?") == [good.weights_sha256] * 2

    mended = make_adapter(6)
    adapters.apply("broken", upload(s3, mended, folder("mended")), mended.digest)
    wait_until_served(pods, adapters, "broken", mended)
    adapters.wait_for("broken", "Degraded", "False")
    assert pods.lives() == before


def test_an_engine_that_ended_has_its_adapters_back(
    s3: Any, pods: EnginePods, adapters: Adapters, folder: Callable[[str], str]
) -> None:
    adapter = make_adapter(7)
    adapters.apply("kept", upload(s3, adapter, folder("v1")), adapter.digest)
    wait_until_served(pods, adapters, "kept", adapter)

    ended, other = pods.names()
    pods.end_engine(ended)
    assert pods.ask(other, "kept", "Who are you?") == adapter.weights_sha256
    wait_until_served(pods, adapters, "kept", adapter, seconds=30)


def test_a_deleted_adapter_leaves_the_pods_and_they_stay(
    s3: Any, pods: EnginePods, adapters: Adapters, folder: Callable[[str], str]
) -> None:
    before, adapter = pods.lives(), make_adapter(8)
    adapters.apply("leaving", upload(s3, adapter, folder("v1")), adapter.digest)
    wait_until_served(pods, adapters, "leaving", adapter)

    kubectl("-n", adapters.namespace, "delete", "loraadapter", "leaving", "--timeout=60s")
    wait_for("its name is gone", lambda: pods.none_lists("leaving"), seconds=DELIVERY_SECONDS, state=pods.listed)
    assert pods.all_list("known", make_adapter(100).digest)
    assert pods.lives() == before


def test_a_folder_without_a_manifest_is_pinned_to_what_was_first_found_in_it(
    s3: Any, pods: EnginePods, adapters: Adapters, folder: Callable[[str], str]
) -> None:
    adapter = make_adapter(9)
    uri = upload(s3, adapter, folder("plain"), manifest=False)
    adapters.apply("plain", uri, None)
    wait_until_served(pods, adapters, "plain", adapter)
    assert adapters.wait_for("plain", "Ready", "True")["status"]["digest"] == adapter.digest

    changed = Adapter(adapter.files | {CONFIG_NAME: adapter.files[CONFIG_NAME] + b"\n"})
    upload(s3, changed, uri, manifest=False)
    replaced, old = pods.names()
    pods.replace(replaced)
    degraded = adapters.wait_for("plain", "Degraded", "True", reason="DigestMismatch", seconds=120)
    assert degraded["status"]["digest"] == adapter.digest
    assert pods.ask(old, "plain", "Who are you?") == adapter.weights_sha256
    (new,) = set(pods.names()) - {old}
    assert "plain" not in pods.models(new)

    upload(s3, adapter, uri, manifest=False)
    pods.replace(new)
    wait_until_served(pods, adapters, "plain", adapter, seconds=60)


def test_the_agent_has_the_credentials_it_needs_and_no_token_of_the_cluster(pods: EnginePods) -> None:
    pod = pods.names()[0]
    list_files = f'ls -A "{TOKEN_FOLDER}" 2>/dev/null || true'
    assert pods.run_in(pod, AGENT_CONTAINER, "sh", "-c", list_files).strip() == ""
    found = pods.run_in(pod, AGENT_CONTAINER, "ls", f"/etc/lora-secrets/{CREDENTIALS}").split()
    assert found == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]


def labelled_pod(annotations: dict[str, str]) -> Document:
    """Return a pod of the played engine with other annotations, as a user would apply it."""
    template = fake_deployment("refused", "none")["spec"]["template"]
    metadata = {"name": "refused", "labels": {INJECT_LABEL: "true"}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({ADAPTERS_ANNOTATION: "../x"}, [ADAPTERS_ANNOTATION, "'../x'"]),
        ({ADAPTERS_ANNOTATION: "fresh,other-namespace/x"}, [ADAPTERS_ANNOTATION, "'other-namespace/x'"]),
        ({ADAPTERS_ANNOTATION: "fresh", SECRETS_ANNOTATION: "../../etc"}, [SECRETS_ANNOTATION, "'../../etc'"]),
        ({}, [ADAPTERS_ANNOTATION, "write the names of LoRAAdapters"]),
    ],
    ids=["path", "other-namespace", "secret", "nothing"],
)
def test_a_pod_that_asks_for_what_cannot_be_is_refused(
    serving_namespace: str, annotations: dict[str, str], words: list[str]
) -> None:
    refused = run("-n", serving_namespace, "create", "-f", "-", stdin=json.dumps(labelled_pod(annotations)))
    assert refused.returncode != 0
    for each in words:
        assert each in refused.stderr
    assert get(serving_namespace, "pod", "refused") is None
