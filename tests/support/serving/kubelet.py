"""Plays the kubelet for inference pods: starts what their containers name, and keeps the downward API file in step.

A container's environment, mounts and order are taken from the pod as the API server has it, so what the webhook wrote
is what runs. Each pod has an address of its own in 127.1.0.0/16, which all of Linux' loopback device answers.
"""

import base64
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError
from kubernetes.watch import Watch

from lora_agent.settings import ADAPTERS_VARIABLE, DESIRED_VARIABLE, LISTEN_VARIABLE, SECRETS_VARIABLE
from lora_api.names import (
    ADAPTERS_DIRECTORY,
    AGENT_CONTAINER,
    AGENT_PORT,
    DESIRED_ANNOTATION,
    DESIRED_DIRECTORY,
    DESIRED_FILE,
    ENGINE_URL_VARIABLE,
    INJECT_LABEL,
    SECRETS_DIRECTORY,
    STARTED_PATH,
)
from support.objects import Document, Objects
from support.serving.agents import Agent
from support.serving.engines import Engine
from support.wait import wait_for

_START_SECONDS = 120.0
_numbers = itertools.count(os.getpid() % 100 * 500)


@dataclass
class Pod:
    """One running pod."""

    name: str
    uid: str
    ip: str
    folder: Path
    agent: Agent
    engine: Engine
    volume: "DownwardVolume"
    told: list[tuple[float, str]] = field(default_factory=list)
    """What it was told: when the file had it, by `time.monotonic`, and the text."""
    told_of: str | None = None

    def follow(self, document: Document) -> None:
        """Bring the file in step with the annotation."""
        text = (document["metadata"].get("annotations") or {}).get(DESIRED_ANNOTATION, "")
        if text != self.told_of:
            self.volume.write(text)
            self.told_of = text
            self.told.append((time.monotonic(), text))

    def told_at(self, digest: str) -> float | None:
        """Return when it was first told of a digest."""
        return next((when for when, text in self.told if digest in text), None)


class DownwardVolume:
    """A folder with one file, which is replaced as the kubelet does it: all at once, by renaming a link."""

    def __init__(self, folder: Path) -> None:
        """Make an empty folder."""
        self.folder = folder
        self._versions = itertools.count(1)
        folder.mkdir(parents=True)

    def write(self, text: str) -> None:
        """Replace the file."""
        version = self.folder / f"..version-{next(self._versions)}"
        version.mkdir()
        (version / DESIRED_FILE).write_text(text)
        link, new = self.folder / "..data", self.folder / "..data_tmp"
        old = link.readlink() if link.is_symlink() else None
        new.symlink_to(version.name)
        new.rename(link)
        if old is None:
            (self.folder / DESIRED_FILE).symlink_to(Path("..data") / DESIRED_FILE)
        else:
            (self.folder / old / DESIRED_FILE).unlink()
            (self.folder / old).rmdir()


class Kubelet:
    """Runs the labelled pods of one namespace."""

    def __init__(self, objects: Objects, folder: Path, variables: dict[str, str] | None = None) -> None:
        """Start to watch. `folder` takes what the pods write; `variables` are more of the agents' environment."""
        self._objects = objects
        self._more_variables = variables or {}
        self._folder = folder
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self.pods: dict[str, Pod] = {}
        self.faults: list[str] = []
        """What went wrong in a thread."""
        self._watch = Watch()
        self._threads = [threading.Thread(target=self._follow, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End all pods."""
        self._ends.set()
        self._watch.stop()
        for pod in list(self.pods.values()):
            _end(pod)

    def pod(self, name: str) -> Pod:
        """Return a pod once it is known here."""
        return wait_for(f"pod {name} is started", lambda: self.pods.get(name), state=lambda: self.faults)

    def _follow(self) -> None:
        """Hear of all pods, again and again: the API server ends each watch after a time, or is away."""
        client = self._objects.server.client()
        while not self._ends.is_set():
            with suppress(Exception):  # whatever it is, it asks again, as a kubelet does
                pods = client.resources.get(api_version="v1", kind="Pod")
                for event in client.watch(
                    pods,
                    namespace=self._objects.namespace,
                    label_selector=f"{INJECT_LABEL}=true",
                    watcher=self._watch,
                    timeout=300,
                ):
                    self._hear(event["type"], event["raw_object"])
            self._ends.wait(0.2)

    def _hear(self, kind: str, document: Document) -> None:
        name, uid = document["metadata"]["name"], document["metadata"]["uid"]
        known = self.pods.get(name)
        if kind == "DELETED" or (known and known.uid != uid) or "deletionTimestamp" in document["metadata"]:
            self._remove(document, gone=kind == "DELETED")
            return
        if known is None:
            self._in_thread(lambda: self._start(document))
        else:
            known.follow(document)

    def _in_thread(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                if not self._ends.is_set():
                    self.faults.append(repr(error))

        threading.Thread(target=run, daemon=True).start()

    def _remove(self, document: Document, *, gone: bool) -> None:
        name = document["metadata"]["name"]
        with self._lock:
            pod = self.pods.pop(name, None)
        if pod is not None:
            _end(pod)
        if not gone:
            with suppress(NotFoundError):
                self._objects._resource("Pod").delete(
                    name=name, namespace=self._objects.namespace, body={"gracePeriodSeconds": 0}
                )

    def _start(self, document: Document) -> None:
        """Start the agent, and the engine as soon as the startup probe passes."""
        if any(each["name"] == AGENT_CONTAINER for each in document["spec"].get("initContainers") or []):
            with self._lock:
                name = document["metadata"]["name"]
                if name in self.pods:
                    return
                pod = self.pods[name] = self._prepare(document)
            pod.follow(document)
            pod.agent.start()
            self._say(pod, document, engine=False)
            wait_for(
                f"agent of {pod.name} is started", lambda: self._is_over(pod) or pod.agent.passes(STARTED_PATH),
                seconds=_START_SECONDS, state=lambda: pod.agent.log.read_text()[-2000:],
            )  # fmt: skip
            if not self._is_over(pod):
                pod.engine.start()
                self._say(pod, document, engine=True)

    def _is_over(self, pod: Pod) -> bool:
        return self._ends.is_set() or self.pods.get(pod.name) is not pod

    def _prepare(self, document: Document) -> Pod:
        ip = free_address()
        name, uid = document["metadata"]["name"], document["metadata"]["uid"]
        folder = self._folder / f"{name}-{uid[:8]}"
        folder.mkdir(parents=True)
        sidecar = next(each for each in document["spec"]["initContainers"] if each["name"] == AGENT_CONTAINER)
        variables = self._environment(document, sidecar)
        url = urlsplit(variables[ENGINE_URL_VARIABLE])
        adapters, temporary, desired = folder / "adapters", folder / "tmp", folder / "desired"
        adapters.mkdir()
        temporary.mkdir()
        assert {ADAPTERS_DIRECTORY, DESIRED_DIRECTORY} <= {each["mountPath"] for each in sidecar["volumeMounts"]}
        variables |= self._more_variables | {
            ENGINE_URL_VARIABLE: f"{url.scheme}://{ip}:{url.port}",
            LISTEN_VARIABLE: ip,
            ADAPTERS_VARIABLE: str(adapters),
            DESIRED_VARIABLE: str(desired / DESIRED_FILE),
            SECRETS_VARIABLE: str(self._mount_secrets(document, sidecar, folder)),
            "TMPDIR": str(temporary),
        }
        container = document["spec"]["containers"][0]
        arguments = [*container.get("command", []), *container.get("args", [])][1:]
        engine = Engine(ip, url.port or 0, arguments, self._environment(document, container))
        return Pod(name, uid, ip, folder, Agent(ip, folder, variables), engine, DownwardVolume(desired))

    def _environment(self, document: Document, container: Document) -> dict[str, str]:
        return dict(self._variables(document, container))

    def _variables(self, document: Document, container: Document) -> Iterator[tuple[str, str]]:
        for each in container.get("env") or []:
            origin = each.get("valueFrom") or {}
            if "secretKeyRef" in origin:
                yield each["name"], self._secret(origin["secretKeyRef"]["name"])[origin["secretKeyRef"]["key"]]
            elif "fieldRef" in origin:
                assert origin["fieldRef"]["fieldPath"] == "metadata.uid"
                yield each["name"], document["metadata"]["uid"]
            else:
                yield each["name"], each.get("value", "").replace("$$", "$")

    def _secret(self, name: str) -> dict[str, str]:
        found = self._objects.get("Secret", name) or {}
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    def _mount_secrets(self, document: Document, container: Document, folder: Path) -> Path:
        volumes = {each["name"]: each for each in document["spec"].get("volumes") or []}
        root = folder / "secrets"
        root.mkdir()
        for mount in container.get("volumeMounts") or []:
            if mount["mountPath"].startswith(f"{SECRETS_DIRECTORY}/"):
                target = root / mount["mountPath"].rpartition("/")[2]
                target.mkdir()
                for key, value in self._secret(volumes[mount["name"]]["secret"]["secretName"]).items():
                    (target / key).write_text(value)
        return root

    def _say(self, pod: Pod, document: Document, *, engine: bool) -> None:
        """Write the pod's status. Until the agent's startup probe has passed the phase is Pending."""
        name = document["spec"]["containers"][0]["name"]
        status = {
            "phase": "Running" if engine else "Pending",
            "podIP": pod.ip,
            "podIPs": [{"ip": pod.ip}],
            "initContainerStatuses": [_container_status(AGENT_CONTAINER, runs=True)],
            "containerStatuses": [_container_status(name, runs=engine)],
        }
        for attempt in itertools.count():
            try:
                self._objects.set_status("Pod", pod.name, status)
            except NotFoundError:
                return
            except (DynamicApiError, OSError):
                if attempt > 20 or self._ends.wait(0.2):
                    raise
            else:
                return


def _container_status(name: str, *, runs: bool) -> Document:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state: dict[str, Any] = {"running": {"startedAt": now}} if runs else {"waiting": {"reason": "PodInitializing"}}
    fixed = {"ready": runs, "started": runs, "restartCount": 0, "image": "", "imageID": ""}
    return {"name": name, "state": state} | fixed


def _end(pod: Pod) -> None:
    pod.agent.kill()
    pod.engine.stop()


def free_address() -> str:
    """Return a loopback address at which nobody listens on the agent's port."""
    for number in _numbers:
        address = f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        with socket.socket() as probe, suppress(OSError):
            probe.bind((address, AGENT_PORT))
            return address
    raise AssertionError("there is always another number")
