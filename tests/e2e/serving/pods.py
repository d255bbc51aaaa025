"""The pods of an inference Deployment, seen from outside: what their engines list and answer, and if they lived on.

Engines are reached through the API server (GET) and by kubectl exec (POST), so this works on any cluster.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demo.kubectl import apply, items, kubectl, run
from e2e.serving.objects import ENGINE_CONTAINER, ENGINE_PORT
from support.wait import wait_for

Document = dict[str, Any]

# Reads a JSON text on its standard input and posts it to the address in its argument.
_POST = """
import sys, urllib.error, urllib.request
headers = {"Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[1], data=sys.stdin.buffer.read(), headers=headers)
try:
    answer = urllib.request.urlopen(request, timeout=60)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(f"{answer.status} {answer.read().decode()}")
"""


@dataclass(frozen=True)
class Lives:
    """Which pods there are, and how often each of their containers was started anew."""

    restarts: dict[tuple[str, str], int]
    """By uid of the pod and name of the container, init containers and sidecars too."""


class EnginePods:
    """The pods of one Deployment."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace = namespace
        self.name = name

    def all(self) -> list[Document]:
        """Return the pods that are not on their way out."""
        found = items(self.namespace, "pods", f"app={self.name}")
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def names(self) -> list[str]:
        """Return the names of the pods."""
        return sorted(each["metadata"]["name"] for each in self.all())

    def apply(self, deployment: Document, seconds: float) -> None:
        """Apply the Deployment and wait until all its replicas are ready."""
        apply(self.namespace, deployment)
        wanted = deployment["spec"]["replicas"]
        wait_for(f"{wanted} ready pods", lambda: self.ready() == wanted, seconds=seconds, state=self.describe)

    def ready(self) -> int:
        """Return how many pods are ready."""
        return sum(_is_ready(each) for each in self.all())

    def lives(self) -> Lives:
        """Return what changes when a pod or one of its containers is started anew."""
        return Lives(
            {
                (pod["metadata"]["uid"], container["name"]): container["restartCount"]
                for pod in self.all()
                for kind in ("initContainerStatuses", "containerStatuses")
                for container in pod["status"].get(kind, [])
            }
        )

    def models(self, pod: str) -> dict[str, str]:
        """Return the models that the engine of a pod lists, with the path of each; none while it does not answer."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{ENGINE_PORT}/proxy/v1/models"
        answer = run("get", "--raw", path)
        if answer.returncode:
            return {}
        return {each["id"]: each["root"] for each in json.loads(answer.stdout)["data"]}

    def listed(self) -> dict[str, dict[str, str]]:
        """Return the models of every pod."""
        return {pod: self.models(pod) for pod in self.names()}

    def all_list(self, model: str, digest: str) -> bool:
        """Return whether every engine lists a model, and at a path that carries the digest."""
        listed = self.listed()
        wanted = digest.replace(":", "-")
        return bool(listed) and all(wanted in models.get(model, "") for models in listed.values())

    def none_lists(self, model: str) -> bool:
        """Return whether every engine answers, and lists the model no more."""
        listed = self.listed()
        return bool(listed) and all(models and model not in models for models in listed.values())

    def ask(self, pod: str, model: str, prompt: str, tokens: int = 24) -> str:
        """Return what the model of a pod says to a prompt; empty while it does not answer."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
        }
        url = f"http://127.0.0.1:{ENGINE_PORT}/v1/chat/completions"
        command = ("-n", self.namespace, "exec", "-i", pod, "-c", ENGINE_CONTAINER, "--", "python3", "-c", _POST, url)
        status, _, answer = run(*command, stdin=json.dumps(body)).stdout.partition(" ")
        return str(json.loads(answer)["choices"][0]["message"]["content"]) if status == "200" else ""

    def answers(self, model: str, prompt: str, tokens: int = 24) -> list[str]:
        """Return what each pod says."""
        return [self.ask(pod, model, prompt, tokens) for pod in self.names()]

    def end_engine(self, pod: str) -> None:
        """End the process of the engine's container, and wait until the kubelet has started another."""
        before = self._engine_restarts(pod)
        run("-n", self.namespace, "exec", pod, "-c", ENGINE_CONTAINER, "--", "sh", "-c", "kill -TERM 1")
        wait_for("the engine's next process", lambda: self._engine_restarts(pod) > before, seconds=60)

    def replace(self, pod: str) -> None:
        """Delete a pod, and wait until the Deployment has made another of which the engine answers."""
        before = set(self.names())
        kubectl("-n", self.namespace, "delete", "pod", pod, "--wait=false")
        wait_for(
            "a pod in its place",
            lambda: (now := set(self.names())) - before and all(self.models(each) for each in now),
            seconds=60,
            state=self.describe,
        )

    @contextmanager
    def forwarded(self, pod: str) -> Iterator[str]:
        """Return an address of this machine at which the engine of a pod answers, for the time of a block."""
        command = ["kubectl", "-n", self.namespace, "port-forward", f"pod/{pod}", f":{ENGINE_PORT}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
            try:
                said = forwarding.stdout.readline() if forwarding.stdout else ""
                address = said.removeprefix("Forwarding from ").partition(" ")[0]
                assert address, f"{' '.join(command)} said {said!r}"
                yield f"http://{address}"
            finally:
                forwarding.terminate()

    def run_in(self, pod: str, container: str, *command: str) -> str:
        """Run a program in a container of a pod and return what it prints."""
        return kubectl("-n", self.namespace, "exec", pod, "-c", container, "--", *command)

    def describe(self) -> object:
        """Return the state of the pods in a few words, for a test that fails."""
        return {
            pod["metadata"]["name"]: [
                (each["name"], each.get("ready"), each["restartCount"], each["state"])
                for kind in ("initContainerStatuses", "containerStatuses")
                for each in pod["status"].get(kind, [])
            ]
            for pod in self.all()
        }

    def _engine_restarts(self, pod: str) -> int:
        found = next((each for each in self.all() if each["metadata"]["name"] == pod), {"status": {}})
        statuses = found["status"].get("containerStatuses", [])
        return next((each["restartCount"] for each in statuses if each["name"] == ENGINE_CONTAINER), 0)


def _is_ready(pod: Document) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
