"""Inference pods of a real API server: made, followed as the operator follows them, and waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from lora_operator.cluster.client import Client
from lora_operator.cluster.connect import PlainClient
from lora_operator.cluster.inference import InferencePods
from lora_operator.cluster.reflector import WatchTimes
from lora_operator.domain.inference import InferencePod
from support.apiserver import ApiServer
from support.objects import Document, Objects

DEADLINE = 60.0


def inference_pod(name: str, *, adapters: str = "a", injected: str = "true") -> Document:
    container = {
        "image": "example.invalid/engine:1",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"lora-operator.io/inject": injected},
            "annotations": {"lora-operator.io/adapters": adapters},
        },
        "spec": {
            "initContainers": [container | {"name": "lora-agent", "restartPolicy": "Always"}],
            "containers": [container | {"name": "engine"}],
        },
    }


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[ApiClient]:
    configuration = Configuration()
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    async with PlainClient(configuration=configuration) as api:
        yield api


class Changes(list[tuple[InferencePod | None, InferencePod | None]]):
    """What was heard of pods, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def __call__(self, before: InferencePod | None, after: InferencePod | None) -> None:
        self.append((before, after))
        self._more.set()

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not look():
                await self._more.wait()
                self._more.clear()


@asynccontextmanager
async def watching(
    client: Client, namespace: str, times: WatchTimes | None = None
) -> AsyncIterator[tuple[InferencePods, Changes]]:
    changes = Changes()
    pods = InferencePods(client, [namespace], changes, times=times or WatchTimes())
    task = asyncio.create_task(pods.run())
    try:
        async with asyncio.timeout(DEADLINE):
            while not pods.synced or pods.blind_seconds:  # the list, and the watch that follows it
                await asyncio.sleep(0.01)
        yield pods, changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def names(pods: InferencePods, cluster: Objects, adapter: str = "a") -> list[str]:
    return [each.name for each in pods.for_adapter(cluster.namespace, adapter)]


Scenario = Callable[[Client], Awaitable[None]]


def play(server: ApiServer, scenario: Scenario, *, kubeconfig: Path | None = None, **options: Any) -> None:
    async def run() -> None:
        async with connected(kubeconfig or server.operator_kubeconfig) as api:
            await scenario(Client(api, **options))

    asyncio.run(run())


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)
