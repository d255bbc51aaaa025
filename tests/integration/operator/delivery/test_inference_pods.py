"""Inference pods on a real API server, followed through every failure of the watch."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.cluster.client import Client
from lora_operator.cluster.reflector import WatchTimes
from support.apiserver import ApiServer, api_server, wait_until_ready
from support.faulty_proxy import FaultyProxy
from support.inference_pods import DEADLINE, in_thread, inference_pod, names, play, watching
from support.objects import Objects


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
