"""The pod webhook against a real API server that calls it: pods, tokens, certificates, replicas, and what fails."""

import base64
import itertools
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from kubernetes.client.exceptions import ApiException

from generate.install import Installation, install_objects
from lora_operator.cluster.permissions import WEBHOOK_NAME
from support.apiserver import ApiServer, api_server, free_port, wait_until_ready
from support.injection import adapter, labelled
from support.objects import Document, Objects
from support.operator_process import IMAGE
from support.wait import wait_for

AGENT_IMAGE = "agent.example/agent:test"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
NO_SERVICE_ACCOUNTS = "--disable-admission-plugins=ServiceAccount"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Return an API server of this module's own, which gives tokens to pods as those of clusters do."""
    if os.environ.get("LORA_TEST_KUBECONFIG"):
        pytest.skip("the API server of a cluster cannot call a webhook that runs here")
    with api_server() as running:
        assert running.process is not None
        running.process._command.remove(NO_SERVICE_ACCOUNTS)
        running.process.kill()
        running.process.start()
        wait_until_ready(running)
        allow_the_operator(running)
        yield running


def allow_the_operator(server: ApiServer) -> None:
    """Give the operator's user what the installed role gives."""
    installed = [each for each in install_objects() if each["metadata"]["name"] == "lora-operator-webhook"]
    role, binding = (each for each in installed if each["kind"].startswith("ClusterRole"))
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "lora-operator"}
    apply(server, [role, binding | {"subjects": [user]}])


def apply(server: ApiServer, objects: list[Document]) -> None:
    done = server.run_kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def cluster(server: ApiServer) -> Objects:
    """Return a namespace that takes locked-down pods only, with the account that every pod has."""
    return namespace_of(server)


def namespace_of(server: ApiServer) -> Objects:
    objects = Objects(server, f"webhook-{next(_numbers)}-{secrets.token_hex(3)}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": objects.namespace, "labels": labels}
    objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    objects.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    return objects


class Replica:
    """One replica of the operator that serves the webhook, and may never lead."""

    def __init__(self, server: ApiServer, namespace: str, folder: Path, *flags: str, port: int = 0) -> None:
        self.port, self.health_port, self.log = port or free_port(), free_port(), folder / f"{secrets.token_hex(3)}.log"
        command = [
            *(sys.executable, "-m", "lora_operator.app.main", "--trainer-image", IMAGE, "--namespace", namespace),
            *("--listen", "127.0.0.1", "--health-port", str(self.health_port), "--metrics-port", str(free_port())),
            *("--webhook", "on", "--webhook-port", str(self.port), "--agent-image", AGENT_IMAGE, "--leader-election"),
            *flags,
        ]
        environment = os.environ | {"KUBECONFIG": str(server.operator_kubeconfig), "LORA_LEASE_NAMESPACE": namespace}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def says(self, path: str) -> str:
        """Return the status and body of a probe; empty while nobody answers."""
        command = ["curl", "--silent", "--write-out", " %{http_code}", f"http://127.0.0.1:{self.health_port}{path}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout

    def wait_until_ready(self) -> None:
        wait_for("a ready replica", lambda: self.says("/readyz").endswith("200"), state=self.log.read_text)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=10)


@pytest.fixture
def start(server: ApiServer, cluster: Objects, tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    """Return what starts a replica for the test's namespace; all of them end with the test."""
    running: list[Replica] = []

    def begin(*flags: str, port: int = 0) -> Replica:
        running.append(Replica(server, cluster.namespace, tmp_path, *flags, port=port))
        return running[-1]

    yield begin
    for each in running:
        each.stop()
    server.run_kubectl("delete", "mutatingwebhookconfiguration", WEBHOOK_NAME, "--ignore-not-found")


def install(server: ApiServer, namespace: str, port: int, **changes: Any) -> None:
    """Install the entry as it is released, but for the way: no Service leads out of this API server."""
    installation = Installation(namespaces=(namespace,))
    (entry,) = (each for each in install_objects(installation) if each["kind"] == "MutatingWebhookConfiguration")
    (webhook,) = entry["webhooks"]
    webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}/inject"}
    webhook |= changes
    apply(server, [entry])


def authorities(server: ApiServer) -> list[str]:
    """Return the authorities that the API server trusts, in PEM."""
    found = server.run_kubectl("get", "mutatingwebhookconfiguration", WEBHOOK_NAME, "-o", "json")
    (webhook,) = json.loads(found.stdout)["webhooks"]
    bundle = base64.b64decode(webhook["clientConfig"].get("caBundle") or "").decode()
    end = "-----END CERTIFICATE-----\n"
    return [each + end for each in bundle.split(end) if each.strip()]


def wait_for_authorities(server: ApiServer, count: int) -> list[str]:
    def look() -> list[str] | None:
        found = authorities(server)
        return found if len(found) == count else None

    return wait_for(f"{count} authorities", look, seconds=60, state=lambda: authorities(server))


@pytest.fixture
def injecting(server: ApiServer, cluster: Objects, start: Callable[..., Replica]) -> Replica:
    """Return a replica whose webhook is called."""
    port = free_port()
    install(server, cluster.namespace, port)
    replica = start(port=port)
    replica.wait_until_ready()
    wait_until_called(cluster)
    return replica


def wait_until_called(cluster: Objects) -> None:
    """Wait until the API server has heard of entry and authority, which takes it a moment."""
    wait_for("an injected pod", lambda: "initContainers" in try_pod(cluster, pod()).get("spec", {}))


def pod(name: str = "vllm", annotations: dict[str, str] | None = None, **container: Any) -> Document:
    """Return a locked-down pod of an engine."""
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    made = labelled(annotations or {}, securityContext=secure, **container)
    made["metadata"]["name"] = name
    return made


def try_pod(cluster: Objects, document: Document) -> Document:
    """Return what the API server would make of a pod; empty if it refuses."""
    where = ("create", "--dry-run=server", "-o", "json", "-n", cluster.namespace, "-f", "-")
    done = cluster.server.run_kubectl(*where, stdin=json.dumps(document))
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def refusal_of(cluster: Objects, document: Document) -> str:
    where = ("create", "--dry-run=server", "-n", cluster.namespace, "-f", "-")
    return cluster.server.run_kubectl(*where, stdin=json.dumps(document)).stderr


def container_of(document: Document, name: str) -> Document:
    spec = document["spec"]
    (found,) = (each for each in [*spec.get("initContainers", []), *spec["containers"]] if each["name"] == name)
    return dict(found)


@pytest.mark.usefixtures("injecting")
def test_a_labelled_pod_gets_its_agent_and_no_token_in_it(cluster: Objects) -> None:
    made = cluster.create(pod())
    agent, engine = container_of(made, "lora-agent"), container_of(made, "engine")
    assert (agent["image"], agent["restartPolicy"]) == (AGENT_IMAGE, "Always")
    assert engine["args"] == ["--model=base", "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2"]

    (token,) = (each["name"] for each in made["spec"]["volumes"] if "projected" in each)
    mounts = {each["mountPath"]: each["name"] for each in agent["volumeMounts"]}
    assert token in [each["name"] for each in engine["volumeMounts"]], "the admission of accounts was at work"
    assert token not in mounts.values()
    assert mounts[TOKEN_PATH] == "lora-no-token"


@pytest.mark.usefixtures("injecting")
def test_an_agent_with_a_token_loses_it_when_the_pod_is_made(cluster: Objects) -> None:
    """A template that was copied from a running pod, or another webhook, may bring one along."""
    made = try_pod(cluster, pod())
    made["metadata"] = {key: made["metadata"][key] for key in ("labels", "annotations")} | {"name": "copied"}
    del made["status"]
    (token,) = (each["name"] for each in made["spec"]["volumes"] if "projected" in each)
    for each in made["spec"]["initContainers"][0]["volumeMounts"]:
        if each["mountPath"] == TOKEN_PATH:
            each["name"] = token
    again = cluster.create(made)
    mounts = {each["mountPath"]: each["name"] for each in container_of(again, "lora-agent")["volumeMounts"]}
    assert mounts[TOKEN_PATH] == "lora-no-token"
    assert token not in mounts.values()


@pytest.mark.usefixtures("injecting")
def test_an_injected_pod_is_made_again_as_it_is(cluster: Objects) -> None:
    """What the API server fills in is written out by the webhook, so nothing is changed back and forth."""
    first = try_pod(cluster, pod())
    first["metadata"] = {key: first["metadata"][key] for key in ("labels", "annotations", "name")}
    del first["status"]
    second = try_pod(cluster, first)
    assert second["spec"] == first["spec"]
    assert second["metadata"]["annotations"] == first["metadata"]["annotations"]


@pytest.mark.usefixtures("injecting")
def test_the_pod_is_told_at_its_admission_what_to_serve(cluster: Objects) -> None:
    known = adapter("support-bot", storage={"credentialsSecretRef": {"name": "s3-keys"}})
    status = known.pop("status")
    known["metadata"] = {"name": "support-bot"}
    cluster.create(known)
    cluster.set_status("LoRAAdapter", "support-bot", status)
    made = cluster.create(pod())
    desired = json.loads(made["metadata"]["annotations"]["lora-operator.io/desired"])
    assert [(each["name"], each["digest"]) for each in desired["adapters"]] == [("support-bot", status["digest"])]
    (secret,) = (each["secret"] for each in made["spec"]["volumes"] if "secret" in each)
    assert (secret["secretName"], secret["optional"]) == ("s3-keys", True)
    report = json.loads(made["metadata"]["annotations"]["lora-operator.io/injected"])
    assert report == {"engine": "vllm", "container": "engine", "port": 8000, "maxRank": 64, "notes": []}


@pytest.mark.usefixtures("injecting")
def test_a_refusal_reaches_whoever_creates_the_pod(cluster: Objects) -> None:
    with pytest.raises(ApiException) as refused:
        cluster.create(pod(annotations={"lora-operator.io/adapters": "team-b/support-bot"}))
    assert refused.value.status == 403
    assert "annotation lora-operator.io/adapters: 'team-b/support-bot' is no name" in str(refused.value.body)


@pytest.mark.usefixtures("injecting")
def test_every_golden_pod_passes_the_api_server(cluster: Objects) -> None:
    folder = Path(__file__).resolve().parents[3] / "golden" / "injection"
    cases = sorted(folder.glob("*/pod.yaml"))
    assert cases
    plain = Objects(cluster.server, f"plain-{secrets.token_hex(3)}")
    plain.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plain.namespace}})
    plain.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    plain.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}})
    for case in cases:
        made = yaml.safe_load((case.parent / "injected.yaml").read_text())
        made["metadata"] |= {"namespace": plain.namespace}
        assert refusal_of(plain, made) == "", case.parent.name


@pytest.mark.usefixtures("injecting")
def test_other_pods_and_namespaces_do_not_depend_on_the_webhook(
    server: ApiServer, cluster: Objects, injecting: Replica
) -> None:
    injecting.stop()
    unlabelled = pod("other")
    unlabelled["metadata"]["labels"] = {}
    assert refusal_of(cluster, unlabelled) == ""
    assert refusal_of(namespace_of(server), pod()) == "", "a namespace that is not served"
    assert "failed calling webhook" in refusal_of(cluster, pod()), "rather no pod than one without its adapters"


def test_an_administrator_may_prefer_pods_without_adapters(
    server: ApiServer, cluster: Objects, start: Callable[..., Replica]
) -> None:
    del start  # it takes the entry away in the end
    install(server, cluster.namespace, free_port(), failurePolicy="Ignore")
    assert "initContainers" not in try_pod(cluster, pod())["spec"]


def test_standbys_are_ready_and_trusted_and_any_of_them_answers(
    server: ApiServer, cluster: Objects, start: Callable[..., Replica]
) -> None:
    ports = [free_port(), free_port()]
    install(server, cluster.namespace, ports[0])
    replicas = [start(port=each) for each in ports]
    for each in replicas:
        each.wait_until_ready()
    trusted = wait_for_authorities(server, 2)
    roles = sorted(json.loads(each.says("/healthz").rpartition(" ")[0])["role"] for each in replicas)
    assert roles == ["leader", "standby"]
    for port in ports:
        install(server, cluster.namespace, port)
        assert authorities(server) == trusted, "applying the entry again takes nobody's authority away"
        wait_until_called(cluster)


def test_an_entry_that_comes_later_is_noticed(
    server: ApiServer, cluster: Objects, start: Callable[..., Replica]
) -> None:
    replica = start()
    replica.wait_until_ready()
    wait_for("a word on it", lambda: "No MutatingWebhookConfiguration calls the webhook" in replica.log.read_text())
    install(server, cluster.namespace, replica.port)
    first = wait_for_authorities(server, 1)
    wait_until_called(cluster)
    assert wait_for_authorities(server, 1) == first, "it keeps its own"


def test_a_certificate_of_somebody_else_is_served_and_nobody_is_trusted_for_it(
    server: ApiServer, cluster: Objects, start: Callable[..., Replica], tmp_path: Path
) -> None:
    from datetime import UTC, datetime

    from lora_operator.app.certificates import make_certificate

    made = make_certificate(["127.0.0.1"], "somebody", datetime.now(UTC))
    (tmp_path / "tls.crt").write_bytes(made.chain)
    (tmp_path / "tls.key").write_bytes(made.key)
    port = free_port()
    bundle = base64.b64encode(made.authority).decode()
    install(server, cluster.namespace, port)
    replica = start("--webhook-certificates", str(tmp_path), port=port)
    replica.wait_until_ready()
    assert authorities(server) == []
    way = {"url": f"https://127.0.0.1:{port}/inject", "caBundle": bundle}
    install(server, cluster.namespace, port, clientConfig=way)
    wait_until_called(cluster)
    assert [x509.load_pem_x509_certificate(each.encode()).subject.rfc4514_string() for each in authorities(server)] == [
        "CN=lora-operator webhook of somebody"
    ]
