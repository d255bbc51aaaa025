"""Who may serve what, and who hears of it: names that lead elsewhere, agents that lie, secrets, and least rights."""

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from lora_api.names import ADAPTERS_ANNOTATION, DESIRED_ANNOTATION, SECRETS_ANNOTATION
from support.hub_server import HubRepository, hub_server
from support.objects import Document, Objects, condition
from support.s3server import S3Server
from support.serving.adapters import WEIGHTS, Published, adapter_files
from support.serving.kubelet import Pod
from support.serving.liar import Liar, claim
from support.serving.scenes import BOT, not_there, version
from support.serving.world import KEYS, ServingWorld, inference_pod, serving_world
from support.wait import wait_for


def try_to_create(objects: Objects, document: Document) -> str:
    """Return why the API server, or the webhook behind it, refuses an object; nothing if it takes it."""
    where = ("create", "--dry-run=server", "-n", objects.namespace, "-f", "-")
    return objects.server.run_kubectl(*where, stdin=yaml.safe_dump(document)).stderr


# Names.


def test_names_that_lead_elsewhere_are_refused(world: ServingWorld) -> None:
    for name in ("other/support-bot", "../support-bot", "..", "a:b", "Support", "a,,../b", "x" * 64):
        refusal = try_to_create(world.objects, inference_pod("trial", name, {}))
        assert "annotation lora-operator.io/adapters" in refusal, name
        assert "of the pod's own namespace" in refusal, name
    assert try_to_create(world.objects, inference_pod("trial", "support-bot, other", {})) == ""

    first = version(world)
    for served_name in ("a/b", "../etc", "..", "a..b", "a:b", ".", "", "a b", "-a", "x" * 64):
        refusal = try_to_create(world.objects, world.adapter(BOT, first, servedName=served_name))
        assert "spec.servedName" in refusal, served_name
    for name in ("a/b", "..", "a:b", "a..b", "A"):
        assert "metadata.name" in try_to_create(world.objects, world.adapter(name, first)), name
    for uri in ("file:///etc", "s3://bucket", "hf://../x", "/etc/passwd", "https://example.com/x", "s3://a b/c"):
        document = world.adapter(BOT, Published(uri, first.digest, ""))
        assert "spec.source.uri" in try_to_create(world.objects, document), uri
    for digest in ("sha256:../../../etc", f"sha256:{'g' * 64}", f"md5:{'0' * 32}"):
        document = world.adapter(BOT, Published(first.uri, digest, ""))
        assert "spec.source.digest" in try_to_create(world.objects, document), digest
    assert try_to_create(world.objects, world.adapter(BOT, first, servedName="Bot_2.1")) == ""


def test_secrets_of_a_pod_are_named_by_plain_names(world: ServingWorld) -> None:
    for name in ("../s3", "other/s3", "/var/run/secrets"):
        refusal = try_to_create(world.objects, inference_pod("trial", BOT, {SECRETS_ANNOTATION: name}))
        assert "annotation lora-operator.io/secrets" in refusal, name


def test_an_adapter_of_another_namespace_is_never_delivered(cluster: Objects, s3: S3Server, tmp_path: Path) -> None:
    other = Objects(cluster.server, f"{cluster.namespace}-other")
    other.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other.namespace}})
    with serving_world(cluster, s3, tmp_path, namespaces=(cluster.namespace, other.namespace)) as world:
        theirs, ours = version(world), version(world)
        other.create(world.adapter(BOT, theirs))
        pods = world.add_pods(2, BOT, **{SECRETS_ANNOTATION: KEYS})
        named_with_slash = pods[0]
        world.objects.patch(
            "Pod",
            named_with_slash.name,  # who may edit pods can write this past the webhook
            {"metadata": {"annotations": {ADAPTERS_ANNOTATION: f"{BOT},{other.namespace}/{BOT}"}}},
        )

        def looked_at() -> bool:
            return condition(other.get("LoRAAdapter", BOT) or {}, "Ready").get("reason") == "NoPods"

        wait_for("the operator has looked at the other one", looked_at)
        world.stays("nothing is served", lambda: not any(each.engine.calls for each in pods), seconds=3)
        assert all(not json.loads(each.told[-1][1]).get("adapters") for each in pods)

        world.add_adapter(BOT, ours)
        world.wait_until_served(pods, BOT, ours)
        assert not any(theirs.digest in text for each in pods for _, text in each.told)
        status = (other.get("LoRAAdapter", BOT) or {})["status"]
        assert (status["desiredPods"], status.get("pods") or []) == (0, [])
    cluster.server.run_kubectl("delete", "loraadapters", "--all", "-n", other.namespace, "--wait=false")


def test_what_somebody_else_writes_into_the_desired_state_is_put_right(world: ServingWorld) -> None:
    """Who may edit pods can serve anything in them anyhow. But what the operator delivers stays right."""
    first = version(world)
    world.add_adapter(BOT, first)
    (pod,) = world.add_pods(1, BOT)
    world.wait_until_served([pod], BOT, first)
    for text in ("{}", "no JSON", '{"adapters": [{"name": "../x", "servedName": "../x", "uri": "s3://a/b"}]}'):
        world.objects.patch("Pod", pod.name, {"metadata": {"annotations": {DESIRED_ANNOTATION: text}}})
        wait_for("the operator's text", lambda: first.digest in pod.told[-1][1])
        world.wait_until_served([pod], BOT, first)
    assert not list(pod.folder.glob("x")), "nothing is written beside the store"


# An agent that lies.


def test_an_agent_speaks_for_its_own_pod_and_its_own_adapters_only(world: ServingWorld) -> None:
    mine, theirs = version(world), version(world)
    world.add_adapter("mine", mine)
    world.add_adapter("theirs", theirs)
    world.add_pod("liar", "mine")
    world.add_pod("honest", "theirs")
    liar_pod, honest = world.kubelet.pod("liar"), world.kubelet.pod("honest")
    world.wait_until_ready("mine", mine)
    world.wait_until_ready("theirs", theirs)
    before = steady(world.status("theirs"))
    liar = Liar(liar_pod)
    try:
        fault = {"state": "Failed", "permanent": True, "reason": "NoEffect", "message": "give it up"}
        statement = claim(liar_pod, {"mine": mine.digest, "theirs": theirs.digest, "../x": "sha256:../x"})
        statement["adapters"][1] |= fault
        liar.says(statement)
        liar.wait_until_heard()
        assert steady(world.status("theirs")) == before
        assert world.objects.get("LoRAAdapter", "theirs") is not None

        liar.says(claim(honest, {"theirs": theirs.digest}, adapters=[]))  # in the name of the other pod
        liar.wait_until_heard()
        assert steady(world.status("theirs")) == before
        assert world.objects.server.run_kubectl("get", "loraadapters", "-n", world.objects.namespace).stderr == ""

        second = version(world)
        world.move("theirs", second)
        world.wait_until_ready("theirs", second)
        assert [each["name"] for each in world.status("theirs")["pods"]] == ["honest"]
    finally:
        liar.close()


def steady(status: Document) -> Document:
    """Return a status without times."""
    return {name: value for name, value in status.items() if name not in ("conditions", "rollout", "versions")}


NONSENSE: dict[str, dict[str, Any]] = {
    "no JSON": {"body": b"<html>"},
    "wrong JSON": {"body": b'{"podUid": 1, "adapters": "x"}'},
    "deep JSON": {"body": b"[" * 100_000},
    "infinite numbers": {"body": b'{"podUid": NaN, "engine": {"kind": 1e999}}'},
    "no end": {"endless": True},
    "a redirect": {"status": 302, "headers": {"Location": "http://127.0.0.1:1/status"}},
    "an error": {"status": 500},
}


def test_an_agent_that_talks_nonsense_is_called_unreachable_and_hurts_nobody(world: ServingWorld) -> None:
    first = version(world)
    world.add_adapter(BOT, first)
    pods = world.add_pods(2, BOT)
    world.wait_until_ready(BOT, first)
    liar = Liar(pods[0])
    try:
        liar.answers(**NONSENSE["no JSON"])
        message = world.wait_for_condition(BOT, "Degraded", "True", "PodUnreachable", seconds=120)
        assert pods[0].name in message
        for what, nonsense in NONSENSE.items():
            liar.answers(**nonsense)
            new = version(world)
            world.move(BOT, new)
            world.wait_until_served(pods[1:], BOT, new)
            liar.wait_until_heard(times=1)
            states = {each["name"]: each["state"] for each in world.status(BOT)["pods"]}
            assert states[pods[0].name] == "Unreachable", what
        assert world.operator.is_healthy()
        assert "Traceback" not in world.operator.log.read_text()
    finally:
        liar.close()
    pods[0].agent.start()
    world.wait_until_served(pods, BOT, new)
    world.wait_until_ready(BOT, new)


def test_words_of_an_agent_are_bounded_and_stay_with_its_pod(world: ServingWorld) -> None:
    first = version(world)
    world.add_adapter(BOT, first)
    (pod,) = world.add_pods(1, BOT)
    world.wait_until_ready(BOT, first)
    liar = Liar(pod)
    try:
        statement = claim(pod, {BOT: first.digest})
        waits = {"state": "Failed", "reason": "../Nonsense reason", "message": "line\nline\x1b[31m" + "x" * 1000}
        statement["adapters"][0] |= waits
        liar.says(statement)
        liar.wait_until_heard()
        wait_for("the status tells it", lambda: world.status(BOT)["pods"][0]["state"] == "Failed", seconds=60)
        said = world.status(BOT)
        assert len(said["pods"][0]["message"]) <= 1024
        assert all(each["reason"].isalnum() for each in said["conditions"])
        assert "\x1b" not in world.operator.log.read_text()
    finally:
        liar.close()


# Secrets.


class Planted:
    """Values that may be found in one place only."""

    def __init__(self, s3: S3Server) -> None:
        self.s3_key = s3.secret_key
        self.wrong_key = secrets.token_hex(20)
        self.hub_token = f"hf_{secrets.token_hex(16)}"
        self.engine_key = f"sk-{secrets.token_hex(16)}"

    def secrets(self) -> list[Document]:
        def secret(name: str, data: dict[str, str]) -> Document:
            return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}

        wrong = {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": self.wrong_key}
        hub, engine = {"token": self.hub_token}, {"key": self.engine_key}
        return [secret("wrong-keys", wrong), secret("hub", hub), secret("engine", engine)]

    def found_in(self, text: str) -> list[str]:
        """Return which of them a text has, plain or in base64."""
        values = vars(self)
        spelled = {name: (value, base64.b64encode(value.encode()).decode()) for name, value in values.items()}
        return [name for name, forms in spelled.items() if any(form in text for form in forms)]


def test_what_is_secret_turns_up_nowhere_else(
    cluster: Objects, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_LOG_LEVEL", "debug")  # the most that anybody can make the operator say
    planted = Planted(s3)
    files = adapter_files(10_000)
    repository, weights = HubRepository(files, private=True), hashlib.sha256(files[WEIGHTS]).hexdigest()
    with hub_server(models={"owner/private": repository}) as hub:
        hub.members = (planted.hub_token,)
        with serving_world(cluster, s3, tmp_path, variables={"HF_ENDPOINT": hub.url}) as world:
            for each in planted.secrets():
                cluster.create(each)
            first = add_good_ones(world)
            document = inference_pod("pod-0", "from-s3,from-hub,refused,away", {SECRETS_ANNOTATION: "wrong-keys"})
            reference = {"secretKeyRef": {"name": "engine", "key": "key"}}
            document["spec"]["containers"][0]["env"] = [{"name": "VLLM_API_KEY", "valueFrom": reference}]
            cluster.create(document)
            pod = world.kubelet.pod("pod-0")
            world.wait_until_served([pod], "from-s3", first)
            world.wait_until_served([pod], "from-hub", Published("", "", weights))
            for name, reason in add_bad_ones(world).items():
                said = wait_for(
                    "it fails", lambda name=name: getattr(pod.agent.adapter(name), "reason", ""), seconds=90
                )
                assert said == reason, name
            pod.engine.vllm.api_key = "another"  # the engine refuses the agent's key from now on
            pod.engine.restart()
            wait_for("the agent says so", lambda: not pod.agent.status().engine.reachable)  # type: ignore[union-attr]
            places = everything_said(world, pod)
    assert all(places.values()), "there is something to search"
    assert "from-hub" in places["agent log"]
    assert {place: found for place, text in places.items() if (found := planted.found_in(text))} == {}


def add_good_ones(world: ServingWorld) -> Published:
    """Create LoRAAdapters from S3 and from the hub."""
    first = version(world)
    world.add_adapter("from-s3", first)
    hub = world.adapter("from-hub", first)
    hub["spec"]["source"] = {"uri": "hf://owner/private", "tokenSecretRef": {"name": "hub"}}
    world.objects.create(hub)
    return first


def add_bad_ones(world: ServingWorld) -> dict[str, str]:
    """Create a LoRAAdapter with wrong keys, and one that is not there; return the reasons to come."""
    refused = world.adapter("refused", version(world))
    refused["spec"]["source"]["storage"] = world.storage_spec | {"credentialsSecretRef": {"name": "wrong-keys"}}
    world.objects.create(refused)
    world.add_adapter("away", not_there(world))
    return {"refused": "NoPermission", "away": "InputNotFound"}


def everything_said(world: ServingWorld, pod: Pod) -> dict[str, str]:
    """Return all that anybody has said of anything, by place."""
    documents = {kind: json.dumps(world.objects.list(kind)) for kind in ("LoRAAdapter", "Pod", "Event")}
    agent = {"status": pod.agent.get("/status"), "metrics": pod.agent.metrics(), "log": pod.agent.log.read_text()}
    store = "".join(
        path.read_text(errors="replace") for path in pod.folder.glob("adapters/**/*.json") if path.is_file()
    )
    operator = {
        "log": world.operator.log.read_text(),
        "metrics": world.operator.read(world.operator.metrics_port, "/metrics"),
    }
    return (
        documents
        | {f"agent {name}": text for name, text in agent.items()}
        | {f"operator {name}": text for name, text in operator.items()}
        | {"store": store}
    )


# Rights.


def test_the_operator_can_tell_a_pod_what_to_serve_and_nothing_else(cluster: Objects) -> None:
    server = cluster.server
    if server.kubeconfig == server.operator_kubeconfig:
        pytest.skip("a cluster of your own has no user for the operator")
    cluster.create(inference_pod("pod-0", BOT, {}))

    config = kubernetes.config.new_client_from_config(config_file=str(server.operator_kubeconfig))
    client = kubernetes.client.CoreV1Api(config)

    def can(verb: str, what: str) -> bool:
        command = ("--kubeconfig", str(server.operator_kubeconfig), "-n", cluster.namespace)
        resource, _, part = what.partition("/")
        more = (f"--subresource={part}",) if part else ()
        return server.run_kubectl(*command, "auth", "can-i", verb, resource, *more).stdout.strip() == "yes"

    def patch(change: Document, subresource: str = "") -> int:
        """Return the status that a merge patch is answered with."""
        name = "patch_namespaced_pod" + subresource
        try:
            getattr(client, name)("pod-0", cluster.namespace, change, _content_type="application/merge-patch+json")
        except kubernetes.client.ApiException as error:
            return int(error.status)
        return 200

    annotation = {"metadata": {"annotations": {DESIRED_ANNOTATION: "{}"}}}
    image = {"spec": {"containers": [{"name": "engine", "image": "evil"}]}}
    for change in (annotation, image, {"metadata": {"labels": {"a": "b"}}}):
        assert patch(change) == 403
    before = cluster.wait("Pod", "pod-0")["spec"]
    assert patch(annotation, "_status") == 200
    for change in (image, {"spec": {"activeDeadlineSeconds": 1}}, {"spec": {"nodeName": "another"}}):
        patch(change, "_status")
    after = cluster.wait("Pod", "pod-0")
    assert after["spec"] == before, "the way of the status leads to no spec"
    assert after["metadata"]["annotations"][DESIRED_ANNOTATION] == "{}"
    for verb, what in (
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("delete", "pods"),
        ("update", "pods"),
        ("create", "pods/exec"),
        ("patch", "pods/ephemeralcontainers"),
        ("update", "deployments.apps"),
        ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
        ("delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
    ):
        assert not can(verb, what), (verb, what)
    assert can("patch", "pods/status")
