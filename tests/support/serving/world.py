"""All parts of the serving side for one test, and what its users do: adapters, pods, and looks at what is served."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_api.names import ADAPTERS_ANNOTATION, INJECT_LABEL
from support.faulty_proxy import FaultyProxy
from support.objects import Document, Objects, condition
from support.s3server import S3Server
from support.serving.adapters import BASE, Published, adapter_files, publish
from support.serving.kubelet import Kubelet, Pod
from support.serving.webhook import ServingOperator, installed
from support.wait import wait_for

SERVED_SECONDS = 60.0
"""For a first version: two processes start, and a download is a program of its own."""
KEYS = "s3-keys"


class ServingWorld:
    """One namespace with its pods."""

    def __init__(
        self, objects: Objects, operator: ServingOperator, s3: S3Server, storage: FaultyProxy, kubelet: Kubelet
    ) -> None:
        """Put the parts together."""
        self.objects, self.operator, self.s3, self.storage, self.kubelet = objects, operator, s3, storage, kubelet
        self.bucket = s3.new_bucket("adapters")

    def publish(self, seed: int, **changes: Any) -> Published:
        """Put a good adapter of its own content into the bucket."""
        return publish(self.s3, self.bucket, adapter_files(seed), **changes)

    def add_keys(self, access_key: str = "", secret_key: str = "") -> None:
        """Create the Secret with the keys of S3."""
        keys = {
            "AWS_ACCESS_KEY_ID": access_key or self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key or self.s3.secret_key,
        }
        self.objects.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS}, "stringData": keys})

    @property
    def storage_spec(self) -> Document:
        """How pods reach S3: through the proxy that a test may break."""
        endpoint = f"http://127.0.0.1:{self.storage.port}"
        return {"endpoint": endpoint, "pathStyle": True, "credentialsSecretRef": {"name": KEYS}}

    def source(self, version: Published, **changes: Any) -> Document:
        """Return the source of a LoRAAdapter."""
        return version.source(storage=self.storage_spec) | changes

    def adapter(self, name: str, version: Published, **spec: Any) -> Document:
        """Return a LoRAAdapter of a version."""
        return {
            "apiVersion": "lora-operator.io/v1alpha1",
            "kind": "LoRAAdapter",
            "metadata": {"name": name},
            "spec": {"baseModel": {"name": BASE}, "source": self.source(version), **spec},
        }

    def add_adapter(self, name: str, version: Published, **spec: Any) -> None:
        """Create a LoRAAdapter."""
        self.objects.create(self.adapter(name, version, **spec))

    def move(self, name: str, version: Published) -> None:
        """Let a LoRAAdapter name another version, as a job that succeeds does."""
        self.objects.patch("LoRAAdapter", name, {"spec": {"source": self.source(version)}})

    def delete_adapter(self, name: str) -> None:
        """Ask for the end of a LoRAAdapter, and do not wait for it."""
        where = ("-n", self.objects.namespace, "--wait=false")
        done = self.objects.server.run_kubectl("delete", "loraadapter", name, *where)
        assert done.returncode == 0, done.stderr

    def add_pod(self, name: str, adapters: str, **annotations: str) -> None:
        """Create a pod of an inference Deployment. The webhook changes it, and the kubelet starts it."""
        self.objects.create(inference_pod(name, adapters, annotations))

    def add_pods(self, count: int, adapters: str, **annotations: str) -> list[Pod]:
        """Create some pods, and return them when all are there; pod-0 is the oldest."""
        names = [f"pod-{number}" for number in range(count)]
        for each in names:
            self.add_pod(each, adapters, **annotations)
        return [self.kubelet.pod(each) for each in names]

    def found(self, name: str) -> Document:
        """Return a LoRAAdapter as it is now."""
        found = self.objects.get("LoRAAdapter", name)
        assert found is not None, f"LoRAAdapter {name} is gone"
        return found

    def status(self, name: str) -> Document:
        """Return the status of a LoRAAdapter; empty while it has none."""
        return dict(self.found(name).get("status") or {})

    def wait_for_condition(self, name: str, kind: str, status: str, reason: str = "", seconds: float = 60.0) -> str:
        """Return the message of a condition as soon as it has a status, and a reason if one is given."""

        def look() -> Document | None:
            found = condition(self.found(name), kind)
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            return found if fits else None

        what = f"LoRAAdapter {name} has {kind}={status} {reason}"
        return str(wait_for(what, look, seconds=seconds, state=lambda: self._state(name)).get("message"))

    def wait_until_ready(self, name: str, version: Published, seconds: float = SERVED_SECONDS) -> Document:
        """Wait until the status says that all pods serve a version; return the status."""

        def look() -> Document | None:
            status = self.status(name)
            served = status.get("digest") == version.digest and status.get("readyPods") == status.get("desiredPods")
            ready = condition({"status": status}, "Ready")
            return status if served and status.get("desiredPods") and ready.get("status") == "True" else None

        return wait_for(f"{name} is ready", look, seconds=seconds, state=lambda: self._state(name))

    def wait_until_served(
        self, pods: Sequence[Pod], name: str, version: Published | None, seconds: float = SERVED_SECONDS
    ) -> None:
        """Wait until the engines of some pods answer with a version under a name, or with None do not know it."""
        wanted = version.weights if version else None

        def look() -> bool:
            return all(each.engine.serves().get(name) == wanted for each in pods)

        what = f"{name} is {wanted} in {[each.name for each in pods]}"
        wait_for(what, look, seconds=seconds, state=lambda: self._pods_say(pods))

    def _pods_say(self, pods: Sequence[Pod]) -> object:
        return [(each.name, each.engine.serves(), each.agent.get("/status"), self.kubelet.faults) for each in pods]

    def _state(self, name: str) -> object:
        found = self.objects.get("LoRAAdapter", name) or {}
        status = json.dumps(found.get("status"), indent=1)
        agents = [each.agent.get("/status") for each in list(self.kubelet.pods.values())]
        return f"{status}\n{agents}\n{self.kubelet.faults}\n{self.operator.log.read_text()[-3000:]}"

    def stays(
        self, what: str, look: Callable[[], bool], seconds: float, state: Callable[[], object] = lambda: ""
    ) -> None:
        """Fail if something does not hold at any look during a time."""
        try:
            wait_for("the contrary", lambda: not look(), seconds=seconds)
        except AssertionError:
            return
        raise AssertionError(f"it did not stay so: {what} {state()}")


def inference_pod(name: str, adapters: str, annotations: dict[str, str]) -> Document:
    """Return a pod as an inference author writes it, who also follows the `restricted` standard."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    engine = {
        "name": "engine",
        "image": "vllm/vllm-openai:v0.33.0",
        "command": ["vllm", "serve", BASE],
        "args": ["--port", "8000"],
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {INJECT_LABEL: "true"},
            "annotations": {ADAPTERS_ANNOTATION: adapters, **annotations},
        },
        "spec": {
            "nodeName": "node-1",
            "automountServiceAccountToken": False,
            "containers": [engine],
            "terminationGracePeriodSeconds": 1,
        },
    }


@contextmanager
def serving_world(
    objects: Objects,
    s3: S3Server,
    folder: Path,
    *,
    port: int = 0,
    namespaces: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
) -> Iterator[ServingWorld]:
    """Yield a running world in a namespace. `port` is another way of the operator to the API server.

    `namespaces` are those that the operator serves, if there are more; `variables` are more of the agents' environment.
    """
    storage = FaultyProxy.to(s3.endpoint)
    operator = ServingOperator(objects, folder, port=port, namespaces=namespaces)
    kubelet = Kubelet(objects, folder / "pods", variables)
    try:
        with installed(objects, operator):
            world = ServingWorld(objects, operator, s3, storage, kubelet)
            world.add_keys()
            yield world
    finally:
        kubelet.close()
        storage.close()
        if operator.process.poll() is None:
            operator.kill()
