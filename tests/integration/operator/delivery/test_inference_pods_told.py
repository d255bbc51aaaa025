"""Inference pods on a real API server, told what to serve: in few requests, with few rights, and by several at once."""

import asyncio
import json
import threading

import pytest

from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import BaseModelReference
from lora_api.names import DESIRED_ANNOTATION
from lora_operator.cluster.client import PODS, ApiError, ChangedError, Client
from lora_operator.cluster.desires import DesireWriter
from lora_operator.cluster.inference import InferencePods
from lora_operator.cluster.lease import FencedClient, NotLeadingError
from lora_operator.domain.errors import RefusedError
from support.apiserver import ApiServer
from support.inference_pods import connected, inference_pod, play, watching
from support.objects import Objects


def entry(name: str, uri: str = "s3://models/a") -> DesiredAdapter:
    return DesiredAdapter(name=name, served_name=name, uri=uri, base_model=BaseModelReference(name="a/b"))


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
                await asyncio.gather(*(writer.submit(pod, {each: entry(each)}) for pod, each in wishes))
                known = [set(each.desired) for each in pods.all()]
            finally:
                stop.set()
                heart.join()
            assert known == [set(adapters)] * 10, "it is known as soon as it is written"
            written = requests.count("patch")
            await asyncio.gather(*(writer.submit(pod, {each: entry(each)}) for pod, each in wishes))
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
                writer.submit(pod, {f"of-{number}": entry(f"of-{number}")})
                for number, (writer, pod) in enumerate(writers)
            )
        )
        for number, (writer, pod) in enumerate(writers):
            await writer.submit(pod, {f"more-of-{number}": entry(f"more-of-{number}")})

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
                await DesireWriter(client, pods).submit(pods.all()[0], many)

    play(server, scenario)


def test_whoever_does_not_lead_reads_and_does_not_write(server: ApiServer, cluster: Objects) -> None:
    cluster.create(inference_pod("p"))

    async def run() -> None:
        async with connected(server.operator_kubeconfig) as api:
            client = FencedClient(api, lambda: False)
            async with watching(client, cluster.namespace) as (pods, _):
                with pytest.raises(NotLeadingError):
                    await DesireWriter(client, pods).submit(pods.all()[0], {"a": entry("a")})

    asyncio.run(run())
    assert DESIRED_ANNOTATION not in cluster.wait("Pod", "p")["metadata"]["annotations"]


def test_a_pod_that_was_replaced_under_its_name_is_told_nothing(server: ApiServer, cluster: Objects) -> None:
    old = cluster.create(inference_pod("p"))
    cluster.delete("Pod", "p")
    cluster.create(inference_pod("p"))

    async def scenario(client: Client) -> None:
        pods = InferencePods(client, [cluster.namespace], lambda *_: None)
        pods.listed(old)
        await DesireWriter(client, pods).submit(pods.all()[0], {"a": entry("a")})

    play(server, scenario)
    found = cluster.wait("Pod", "p")["metadata"]["annotations"].get(DESIRED_ANNOTATION)
    assert found is None
