"""Everything that runs during the benchmark, and which pod asks for which adapter."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kubernetes.dynamic.exceptions import InternalServerError, ServiceUnavailableError

from bench.operator.audit import AuditLog
from bench.serving.measurements import Settings
from bench.trainer.report import say
from support.apiserver import api_server
from support.objects import Objects
from support.s3server import open_s3_server
from support.serving.adapters import Published
from support.serving.kubelet import Pod
from support.serving.world import ServingWorld, serving_world
from support.wait import wait_for

NAMESPACE = "bench"
_USERS = 4
"""Requests that the benchmark makes at the same time."""
_TRIES = 60


@dataclass
class Stage:
    """A running world, and what is meant to be in it."""

    world: ServingWorld
    audit: AuditLog
    settings: Settings
    versions: dict[str, Published] = field(default_factory=dict)
    """Newest version of each LoRAAdapter."""
    pods: list[Pod] = field(default_factory=list)
    refused: int = 0
    """Creations of pods that were refused, and tried again."""

    @property
    def names(self) -> list[str]:
        """All LoRAAdapters; all pods ask for the first."""
        return [f"adapter-{number:03d}" for number in range(self.settings.adapters)]

    def names_of(self, number: int) -> list[str]:
        """Return the adapters that a pod asks for: the first, and its share of the others."""
        own, others = self.settings.each - 1, self.names[1:]
        return [self.names[0], *(others[(number * own + each) % len(others)] for each in range(own))]

    def publish_all(self) -> None:
        """Put a version of each adapter into the bucket, and create the LoRAAdapters."""
        for number, name in enumerate(self.names):
            self.versions[name] = self.world.publish(number)

        def create(name: str) -> None:
            self.world.add_adapter(name, self.versions[name])

        self._in_parallel(create, self.names)

    def create_pods(self) -> None:
        """Create all pods."""
        self._in_parallel(self._create_pod, range(self.settings.pods))

    def _create_pod(self, number: int) -> None:
        """Create a pod as the controller of a ReplicaSet does: what is refused for now is tried again."""
        for _ in range(_TRIES):
            try:
                self.world.add_pod(f"pod-{number:02d}", ",".join(self.names_of(number)))
            except (InternalServerError, ServiceUnavailableError):
                self.refused += 1
                time.sleep(1)
            else:
                return
        raise RuntimeError(f"pod-{number:02d} was refused {_TRIES} times")

    def _in_parallel(self, work: object, values: object) -> None:
        with ThreadPoolExecutor(_USERS) as users:
            list(users.map(work, values))  # type: ignore[arg-type,call-overload]

    def find_pods(self) -> None:
        """Learn of the pods as soon as they are started."""
        self.pods = [self.world.kubelet.pod(f"pod-{number:02d}") for number in range(self.settings.pods)]

    def serve_what_they_should(self) -> bool:
        """Return whether each engine's own list has exactly the newest version of each adapter that its pod wants."""
        return all(self._listed(each) == self._wanted(number) for number, each in enumerate(self.pods))

    def _wanted(self, number: int) -> dict[str, str]:
        return {name: self.versions[name].digest.replace(":", "-") for name in self.names_of(number)}

    @staticmethod
    def _listed(pod: Pod) -> dict[str, str]:
        return {name: Path(path).name for name, path in dict(pod.engine.vllm.loaded).items()}

    def prove(self) -> None:
        """Ask some engines, as a client does, and compare the bytes. Raises RuntimeError."""
        for number in range(0, len(self.pods), 10):
            served = self.pods[number].engine.serves()
            wanted = {name: self.versions[name].weights for name in self.names_of(number)}
            if served != wanted:
                raise RuntimeError(f"{self.pods[number].name} serves something else")

    def wait(self, what: str, seconds: float) -> None:
        """Wait until all engines serve what they should."""
        wait_for(what, self.serve_what_they_should, seconds=seconds, state=lambda: self.world.kubelet.faults[:3])


@contextmanager
def stage(folder: Path, settings: Settings) -> Iterator[Stage]:
    """Yield everything, running, with no adapter and no pod."""
    with api_server() as server, open_s3_server(folder / "s3") as s3:
        if server.audit_log is None:
            raise RuntimeError("it needs an API server of its own: unset LORA_TEST_KUBECONFIG")
        objects = Objects(server, NAMESPACE)
        objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        with serving_world(objects, s3, folder) as world:
            say("API server, S3 and operator are ready")
            yield Stage(world, AuditLog(server.audit_log), settings)
