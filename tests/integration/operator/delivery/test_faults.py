"""Parts of the delivery that die, are cut off, or go: what is served stays served, and everything is finished later."""

import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lora_api.names import UNLOAD_FINALIZER
from support.faulty_proxy import FaultyProxy
from support.objects import Document, Objects, condition
from support.s3server import S3Server
from support.serving.scenes import BOT, ENGINE_RETURN_SECONDS, all_serve, is_deleted, reasons, serve, version
from support.serving.world import ServingWorld, serving_world
from support.wait import wait_for

# Parts that die.


def test_an_engine_that_comes_back_serves_again_within_seconds(world: ServingWorld) -> None:
    (pod,), first = serve(world, 1)
    pod.engine.stop()
    wait_for("the agent sees it", lambda: not pod.agent.status().engine.reachable)  # type: ignore[union-attr]
    pod.engine.start()
    world.wait_until_served([pod], BOT, first, seconds=ENGINE_RETURN_SECONDS)
    assert pod.engine.loads(BOT)[-1].time - pod.engine.started < ENGINE_RETURN_SECONDS

    pod.engine.restart()  # so fast that nobody sees it away
    world.wait_until_served([pod], BOT, first, seconds=ENGINE_RETURN_SECONDS)
    wait_for("the restarts are counted", lambda: getattr(pod.agent.status(), "engine", None).restarts >= 1)  # type: ignore[union-attr]
    world.wait_until_ready(BOT, first)


def test_an_agent_that_is_killed_leaves_everything_served(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    calls = [list(each.engine.calls) for each in pods]
    for each in pods:
        each.agent.kill()
    assert all_serve(pods, first)
    for each in pods:
        each.agent.start()
    for each in pods:
        wait_for(
            "it reports again", lambda each=each: getattr(each.agent.adapter(BOT), "served_digest", "") == first.digest
        )
    assert [list(each.engine.calls) for each in pods] == calls, "it has found what it had done, and did nothing"
    assert all(each.agent.passes("/ready") for each in pods)
    second = version(world)
    world.move(BOT, second)
    world.wait_until_served(pods, BOT, second)


def test_an_agent_that_is_killed_within_an_update_finishes_it(world: ServingWorld) -> None:
    (pod,), _ = serve(world, 1)
    second = version(world)
    world.move(BOT, second)
    wait_for("it is told", lambda: pod.told_at(second.digest))
    pod.agent.kill()
    assert pod.engine.serves()[BOT] != ""
    pod.agent.start()
    world.wait_until_served([pod], BOT, second)
    wait_for("nothing is left of the trial", lambda: not [each for each in pod.engine.vllm.loaded if each != BOT])


def test_an_operator_that_is_killed_within_a_rollout_finishes_it(world: ServingWorld) -> None:
    pods, first = serve(world, 3)
    second = version(world)
    world.move(BOT, second)
    wait_for("the first pod is told", lambda: [each for each in pods if each.told_at(second.digest)])
    world.operator.kill()
    (canary,) = [each for each in pods if each.told_at(second.digest)]
    world.wait_until_served([canary], BOT, second)
    others = [each for each in pods if each is not canary]
    assert all_serve(others, first), "nobody goes on without the operator"

    world.operator.restart()
    world.wait_until_served(pods, BOT, second)
    status = world.wait_until_ready(BOT, second)
    assert status["rollout"]["canary"] == canary.name
    assert all(len([text for _, text in each.told if second.digest in text]) == 1 for each in pods), "told once"


def test_an_operator_that_is_killed_at_rest_writes_nothing_when_it_is_back(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    server, namespace = world.objects.server, world.objects.namespace
    if server.audit_log is None:
        pytest.skip("a cluster of your own keeps no audit log for tests")
    world.operator.kill()
    before = server.writes_of_operator(namespace)
    world.operator.restart()
    wait_for("it works", world.operator.is_ready, seconds=60)
    wait_for("passes", lambda: world.operator.passes() >= 2)
    wait_for("the agents have been asked", lambda: asked(world) >= len(pods))

    def written() -> list[str]:
        return server.writes_of_operator(namespace)[len(before) :]

    world.stays("no write", lambda: not written(), seconds=5, state=written)
    assert all_serve(pods, first)


def asked(world: ServingWorld) -> float:
    """Return how many questions agents have answered to the operator that runs now."""
    lines = world.operator.read(world.operator.metrics_port, "/metrics").splitlines()
    return sum(float(each.rpartition(" ")[2]) for each in lines if 'agent_polls_total{result="answered"}' in each)


def test_while_s3_is_away_everything_is_served_and_the_update_comes_when_it_is_back(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    world.storage.refuse()
    second = version(world)
    world.move(BOT, second)

    def waiting() -> bool:
        said = [each.agent.adapter(BOT) for each in pods]
        return any(each and each.reason == "ServiceUnavailable" and not each.permanent for each in said)

    wait_for("an agent says that it waits", waiting, seconds=90)
    assert all_serve(pods, first)
    assert condition(world.found(BOT), "Progressing")["status"] == "True"
    pods[0].engine.restart()
    world.wait_until_served(pods, BOT, first, seconds=ENGINE_RETURN_SECONDS)
    assert not any(each.engine.unloads(BOT) for each in pods)
    world.storage.allow()
    world.wait_until_served(pods, BOT, second, seconds=120)
    world.wait_until_ready(BOT, second)


def test_nothing_is_lost_on_a_bad_way_to_the_api_server(cluster: Objects, s3: S3Server, tmp_path: Path) -> None:
    port = urlsplit(cluster.server.url).port
    if port is None:
        pytest.skip("the way to a cluster of your own is left alone")
    proxy = FaultyProxy(port)
    try:
        with serving_world(cluster, s3, tmp_path, port=proxy.port) as world:
            pods, first = serve(world, 2)
            second, third = version(world), version(world)
            proxy.refuse()
            world.move(BOT, second)
            world.stays("the old version answers", lambda: all_serve(pods, first), seconds=3)
            proxy.allow()
            wait_for("a pod is told", lambda: any(each.told_at(second.digest) for each in pods), seconds=60)
            proxy.cut()
            world.wait_until_served(pods, BOT, second, seconds=90)
            proxy.block()
            world.move(BOT, third)
            world.stays("the old version answers", lambda: all_serve(pods, second), seconds=3)
            proxy.cut()
            proxy.unblock()
            world.wait_until_served(pods, BOT, third, seconds=90)
            world.wait_until_ready(BOT, third)
            assert not any(each.engine.unloads(BOT) for each in pods)
    finally:
        proxy.close()


# The end.


def test_a_deleted_adapter_goes_when_all_pods_have_unloaded_it(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    assert UNLOAD_FINALIZER in world.found(BOT)["metadata"]["finalizers"]
    slow = pods[1]
    slow.agent.freeze()
    world.delete_adapter(BOT)
    world.wait_until_served(pods[:1], BOT, None)
    world.stays("it waits for the slow one", lambda: not is_deleted(world), seconds=3)
    assert slow.engine.serves() == {BOT: first.weights}
    slow.agent.thaw()
    wait_for("the LoRAAdapter is gone", lambda: is_deleted(world))
    assert all(each.engine.serves() == {} for each in pods), "by then nobody serves it"
    wait_for("an event", lambda: "Unloaded" in reasons(world))
    wait_for(
        "the files go, too", lambda: not [one for each in pods for one in each.folder.glob("adapters/.store/sha256-*")]
    )


def test_a_pod_that_cannot_be_reached_is_named_and_holds_up_a_deletion_for_a_minute(world: ServingWorld) -> None:
    pods, _ = serve(world, 2)
    lost = pods[1]
    lost.agent.freeze()
    message = world.wait_for_condition(BOT, "Degraded", "True", "PodUnreachable", seconds=120)
    assert lost.name in message
    states = {each["name"]: each["state"] for each in world.status(BOT)["pods"]}
    assert states == {pods[0].name: "Served", lost.name: "Unreachable"}

    world.delete_adapter(BOT)
    started = time.monotonic()
    world.wait_until_served(pods[:1], BOT, None)
    wait_for("the LoRAAdapter is gone", lambda: is_deleted(world), seconds=90)
    assert time.monotonic() - started > 50, "it had its time"
    events = wait_for("an event", lambda: [each for each in world.objects.list("Event") if is_farewell(each)])
    assert lost.name in events[0]["message"]
    lost.agent.thaw()
    world.wait_until_served(pods, BOT, None)


def is_farewell(event: Document) -> bool:
    return bool(event["reason"] == "PodUnreachable" and "not confirmed" in event["message"])


def test_a_rollout_goes_on_without_a_pod_that_cannot_be_reached(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    lost = pods[0]
    lost.agent.freeze()
    world.wait_for_condition(BOT, "Degraded", "True", "PodUnreachable", seconds=120)
    second = version(world)
    world.move(BOT, second)
    world.wait_until_served(pods[1:], BOT, second)
    assert lost.engine.serves() == {BOT: first.weights}
    lost.agent.thaw()
    world.wait_until_served(pods, BOT, second)
    world.wait_until_ready(BOT, second)


def test_a_finalizer_that_is_removed_by_force_lets_the_pods_go(world: ServingWorld) -> None:
    pods, _ = serve(world, 2)
    world.operator.kill()
    world.delete_adapter(BOT)
    patch = json.dumps({"metadata": {"finalizers": None}})
    where = ("-n", world.objects.namespace, "--type=merge", "-p", patch)
    assert world.objects.server.run_kubectl("patch", "loraadapter", BOT, *where).returncode == 0
    wait_for("the LoRAAdapter is gone", lambda: is_deleted(world))
    world.operator.restart()
    world.wait_until_served(pods, BOT, None)


def test_a_pod_that_goes_is_asked_no_more(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    world.objects.server.run_kubectl("delete", "pod", pods[1].name, "-n", world.objects.namespace, "--wait=false")
    wait_for("1/1", lambda: world.status(BOT).get("servedPods") == "1/1")
    world.wait_for_condition(BOT, "Degraded", "False")
    assert all_serve(pods[:1], first)
