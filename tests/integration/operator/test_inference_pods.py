"""Inference pods on a real API server: followed through every failure, and told what to serve with few rights."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import BaseModelReference
from lora_api.names import DESIRED_ANNOTATION
from lora_operator.cluster.client import PODS, ApiError, ChangedError, Client
from lora_operator.cluster.connect import PlainClient
from lora_operator.cluster.desires import DesireWriter
from lora_operator.cluster.inference import InferencePods
from lora_operator.cluster.lease import FencedClient, NotLeadingError
from lora_operator.cluster.reflector import WatchTimes
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.inference import InferencePod, with_entry
from support.apiserver import ApiServer, api_server, wait_until_ready
from support.faulty_proxy import FaultyProxy
from support.objects import Document, Objects

DEADLINE = 60.0


def entry(name: str, uri: str = "s3://models/a") -> DesiredAdapter:
    return DesiredAdapter(name=name, served_name=name, uri=uri, base_model=BaseModelReference(name="a/b"))


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


def test_pods_are_followed_from_their_making_to_their_end(server: ApiServer, cluster: Objects) -> None:
    cluster.create(inference_pod("first"))
    cluster.create(inference_pod("plain", injected="false"))
    requests: list[tuple[str, str, int]] = []

    async def scenario(client: Client) -> None:
        async with watching(client, cluster.namespace) as (pods, changes):
            assert names(pods, cluster) == ["first"]
            await in_thread(cluster.create, inference_pod("second", adapters="a,b"))
            await changes.until(lambda: names(pods, cluster, "b") == ["second"])
            running = {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}
            state = {
                "name": "lora-agent",
                "state": {"running": {}},
                "ready": True,
                "restartCount": 0,
                "image": "",
                "imageID": "",
            }
            await in_thread(cluster.set_status, "Pod", "first", running | {"initContainerStatuses": [state]})
            await changes.until(lambda: any(each.running for each in pods.all()))
            found = pods.get(cluster.namespace, "first")
            assert found is not None
            assert (found.ip, found.injected, found.running) == ("10.0.0.9", True, True)
            await in_thread(cluster.patch, "Pod", "second", {"metadata": {"labels": {"lora-operator.io/inject": None}}})
            await changes.until(lambda: names(pods, cluster) == ["first"])
            await in_thread(cluster.delete, "Pod", "first")
            await changes.until(lambda: pods.all() == [])
            assert pods.blind_seconds == 0.0

    play(server, scenario, observer=lambda verb, resource, status, _: requests.append((verb, resource, status)))
    assert requests == [("list", "pods", 200), ("watch", "pods", 200)]


def test_a_watch_that_the_server_ends_in_its_time_goes_on_and_misses_nothing(
    server: ApiServer, cluster: Objects
) -> None:
    requests: list[str] = []

    async def scenario(client: Client) -> None:
        async with watching(client, cluster.namespace, WatchTimes(watch=2.0)) as (pods, changes):
            for number in range(8):
                await in_thread(cluster.create, inference_pod(f"p-{number}"))
                await changes.until(lambda each=number: len(pods.all()) == each + 1)
                async with asyncio.timeout(DEADLINE):
                    while requests.count("watch") < 2 + number // 2:
                        await asyncio.sleep(0.05)

    play(server, scenario, observer=lambda verb, *_: requests.append(verb))
    assert requests.count("list") == 1
    assert requests.count("watch") >= 5


@pytest.fixture
def proxy(server: ApiServer) -> Any:
    if not server.url:
        pytest.skip("needs an API server behind a proxy")
    running = FaultyProxy(int(server.url.rsplit(":", 1)[1]))
    yield running
    running.close()


def kubeconfig_through(proxy: FaultyProxy, server: ApiServer, folder: Path) -> Path:
    config = yaml.safe_load(server.operator_kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_connections_that_break_and_an_api_server_that_is_away(
    server: ApiServer, cluster: Objects, proxy: FaultyProxy, tmp_path: Path
) -> None:
    async def scenario(client: Client) -> None:
        async with watching(client, cluster.namespace) as (pods, changes):
            for number in range(3):
                proxy.cut()
                await in_thread(cluster.create, inference_pod(f"cut-{number}"))
                await changes.until(lambda each=number: len(pods.all()) == each + 1)
            proxy.refuse()
            await in_thread(cluster.create, inference_pod("meanwhile"))
            await in_thread(cluster.delete, "Pod", "cut-0")
            async with asyncio.timeout(DEADLINE):
                while pods.blind_seconds < 1.0:
                    await asyncio.sleep(0.05)
            assert names(pods, cluster) == ["cut-0", "cut-1", "cut-2"], "what was known stays known"
            proxy.allow()
            await changes.until(lambda: names(pods, cluster) == ["cut-1", "cut-2", "meanwhile"])
            assert pods.blind_seconds == 0.0

    play(server, scenario, kubeconfig=kubeconfig_through(proxy, server, tmp_path))


def test_a_connection_that_is_silent_for_ever_is_opened_anew(
    server: ApiServer, cluster: Objects, proxy: FaultyProxy, tmp_path: Path
) -> None:
    async def scenario(client: Client) -> None:
        async with watching(client, cluster.namespace, WatchTimes(silence=2.0)) as (pods, changes):
            proxy.block()
            await in_thread(cluster.create, inference_pod("swallowed"))
            async with asyncio.timeout(DEADLINE):
                while pods.blind_seconds == 0.0:
                    await asyncio.sleep(0.05)
            assert pods.all() == []
            proxy.cut()  # what was held back is lost
            proxy.unblock()
            await changes.until(lambda: names(pods, cluster) == ["swallowed"])

    play(server, scenario, kubeconfig=kubeconfig_through(proxy, server, tmp_path), timeout=2.0)


@pytest.mark.skipif("LORA_TEST_KUBECONFIG" in os.environ, reason="restarts the API server")
def test_an_api_server_that_restarts_and_has_forgotten_the_version() -> None:
    """A new one has no events of before its start, and answers 410 to whoever asks for them."""
    requests: list[tuple[str, int]] = []
    with api_server() as own:
        cluster = Objects(own, "default")
        cluster.create(inference_pod("before"))
        process = own.process
        assert process is not None

        async def scenario(client: Client) -> None:
            async with watching(client, "default") as (pods, changes):
                await in_thread(process.kill)
                async with asyncio.timeout(DEADLINE):
                    while not pods.blind_seconds:
                        await asyncio.sleep(0.01)
                pods._reflectors[0]._version = "1"  # as after an hour
                process.start()
                await in_thread(wait_until_ready, own)
                await in_thread(Objects(own, "default").create, inference_pod("after"))
                await changes.until(lambda: names(pods, cluster) in (["after", "before"], ["before", "after"]))
                async with asyncio.timeout(DEADLINE):
                    while pods.blind_seconds:  # until the watch after the second list is open
                        await asyncio.sleep(0.01)

        play(own, scenario, observer=lambda verb, resource, status, _: requests.append((verb, status)))
    answered = [each for each in requests if each[1] == 200]
    assert answered == [("list", 200), ("watch", 200), ("watch", 200), ("list", 200), ("watch", 200)]


def test_an_annotation_can_be_written_through_status_and_the_spec_cannot(server: ApiServer, cluster: Objects) -> None:
    """The operator has `patch` on `pods/status`, and none on `pods`."""
    uid = cluster.create(inference_pod("p"))["metadata"]["uid"]

    async def scenario(client: Client) -> None:
        where = PODS, cluster.namespace, "p", uid, DESIRED_ANNOTATION
        answer = await client.set_annotation(*where, None, "one")
        assert answer is not None
        assert answer["metadata"]["annotations"][DESIRED_ANNOTATION] == "one"
        await client.set_annotation(*where, "one", "two")
        for before in (None, "one"):
            with pytest.raises(ChangedError):
                await client.set_annotation(*where, before, "three")
        with pytest.raises(ChangedError):
            await client.set_annotation(PODS, cluster.namespace, "p", "another-uid", DESIRED_ANNOTATION, "two", "three")
        assert await client.set_annotation(PODS, cluster.namespace, "gone", uid, DESIRED_ANNOTATION, None, "x") is None
        path, kind = PODS.path(cluster.namespace, "p"), "application/json-patch+json"
        change = [
            {"op": "replace", "path": "/spec/containers/0/image", "value": "evil"},
            {"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 1},
        ]
        await client._call("PATCH", path + "/status", body=change, content=kind)
        with pytest.raises(ApiError, match="403"):
            await client._call("PATCH", path, body=change, content=kind)

    play(server, scenario)
    found = cluster.wait("Pod", "p")
    assert found["metadata"]["annotations"][DESIRED_ANNOTATION] == "two"
    assert found["spec"]["containers"][0]["image"] == "example.invalid/engine:1"
    assert "activeDeadlineSeconds" not in found["spec"]


def test_pods_are_told_in_few_requests_while_others_write_them_too(server: ApiServer, cluster: Objects) -> None:
    pods_made, adapters = [f"p-{number}" for number in range(10)], [f"a-{number}" for number in range(40)]
    for each in pods_made:
        cluster.create(inference_pod(each))
    requests: list[str] = []
    stop = threading.Event()

    def beat() -> None:
        """Change the pods all the time, as kubelets do."""
        number = 0
        while not stop.is_set():
            number += 1
            for each in pods_made:
                cluster.set_status("Pod", each, {"message": f"beat {number}"})

    async def scenario(client: Client) -> None:
        async with watching(client, cluster.namespace) as (pods, _):
            writer = DesireWriter(client, pods)
            heart = threading.Thread(target=beat)
            heart.start()
            try:
                wishes = [(pod, each) for each in adapters for pod in pods.all()]
                await asyncio.gather(*(writer.assign(pod, {each: entry(each)}) for pod, each in wishes))
                known = [set(each.desired) for each in pods.all()]
            finally:
                stop.set()
                heart.join()
            assert known == [set(adapters)] * 10, "it is known as soon as it is written"
            written = requests.count("patch")
            await asyncio.gather(*(writer.assign(pod, {each: entry(each)}) for pod, each in wishes))
            assert requests.count("patch") == written

    play(server, scenario, observer=lambda verb, *_: requests.append(verb))
    assert 10 <= requests.count("patch") <= 20
    told = cluster.wait("Pod", "p-3")["metadata"]["annotations"][DESIRED_ANNOTATION]
    assert sorted(each["name"] for each in json.loads(told)["adapters"]) == sorted(adapters)


def test_two_operators_do_not_undo_each_other(server: ApiServer, cluster: Objects) -> None:
    """Neither has seen the other's write when it writes: each works from a watch of its own that tells it nothing."""
    document = cluster.create(inference_pod("p"))

    async def scenario(client: Client) -> None:
        writers = []
        for _ in range(2):
            pods = InferencePods(client, [cluster.namespace], lambda *_: None)
            pods.listed(document)
            writers.append((DesireWriter(client, pods), pods.all()[0]))
        await asyncio.gather(
            *(
                writer.assign(pod, {f"of-{number}": entry(f"of-{number}")})
                for number, (writer, pod) in enumerate(writers)
            )
        )
        for number, (writer, pod) in enumerate(writers):
            await writer.assign(pod, {f"more-of-{number}": entry(f"more-of-{number}")})

    play(server, scenario)
    told = cluster.wait("Pod", "p")["metadata"]["annotations"][DESIRED_ANNOTATION]
    assert [each["name"] for each in json.loads(told)["adapters"]] == ["more-of-0", "more-of-1", "of-0", "of-1"]


def test_what_the_api_server_refuses_comes_back_in_its_words(server: ApiServer, cluster: Objects) -> None:
    """Other annotations of the pod leave too little of the 256 KiB."""
    document = inference_pod("p")
    document["metadata"]["annotations"]["example.com/large"] = "x" * 200_000
    cluster.create(document)

    async def scenario(client: Client) -> None:
        async with watching(client, cluster.namespace) as (pods, _):
            many = {f"a-{each}": entry(f"a-{each}", "s3://models/" + "x" * 700) for each in range(100)}
            with pytest.raises(RefusedError, match="may not be more than 262144 bytes"):
                await DesireWriter(client, pods).assign(pods.all()[0], many)

    play(server, scenario)


def test_whoever_does_not_lead_reads_and_does_not_write(server: ApiServer, cluster: Objects) -> None:
    cluster.create(inference_pod("p"))

    async def run() -> None:
        async with connected(server.operator_kubeconfig) as api:
            client = FencedClient(api, lambda: False)
            async with watching(client, cluster.namespace) as (pods, _):
                with pytest.raises(NotLeadingError):
                    await DesireWriter(client, pods).assign(pods.all()[0], {"a": entry("a")})

    asyncio.run(run())
    assert DESIRED_ANNOTATION not in cluster.wait("Pod", "p")["metadata"]["annotations"]


def test_a_pod_that_was_replaced_under_its_name_is_told_nothing(server: ApiServer, cluster: Objects) -> None:
    old = cluster.create(inference_pod("p"))
    cluster.delete("Pod", "p")
    cluster.create(inference_pod("p"))

    async def scenario(client: Client) -> None:
        pods = InferencePods(client, [cluster.namespace], lambda *_: None)
        pods.listed(old)
        await DesireWriter(client, pods).assign(pods.all()[0], {"a": entry("a")})

    play(server, scenario)
    found = cluster.wait("Pod", "p")["metadata"]["annotations"].get(DESIRED_ANNOTATION)
    assert found is None
    assert with_entry(found, "a", None) is None
