"""What users of inference pods are promised, on the real parts: API server, operator, webhook, S3 and agents.

Whether something is served is asked of the engines themselves, as a client does, and not of anybody's status alone.
"""

import json
from collections.abc import Callable

import pytest

from support.objects import condition
from support.serving.adapters import Published
from support.serving.scenes import (
    BOT,
    ENGINE_RETURN_SECONDS,
    all_serve,
    by_hand,
    not_there,
    of_another_base,
    reasons,
    serve,
    truncated,
    version,
    versions,
)
from support.serving.world import ServingWorld
from support.wait import wait_for

# The straight path.


def test_the_first_version_is_served_by_all_pods(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    status = world.status(BOT)
    assert (status["readyPods"], status["desiredPods"], status["servedPods"]) == (2, 2, "2/2")
    assert [(each["name"], each["state"], each["digest"]) for each in status["pods"]] == [
        (each.name, "Served", first.digest) for each in pods
    ]
    told = {kind: condition({"status": status}, kind)["status"] for kind in ("Compatible", "Loaded", "Degraded")}
    assert told == {"Compatible": "True", "Loaded": "True", "Degraded": "False"}
    assert versions(world) == {first.digest: "Serving"}
    assert all(each.agent.passes("/ready") for each in pods)
    assert "Traceback" not in world.operator.log.read_text()


def test_an_update_goes_to_one_pod_first_and_to_the_others_when_it_is_served_there(world: ServingWorld) -> None:
    pods, first = serve(world, 3)
    second = version(world)
    world.move(BOT, second)
    world.wait_until_served(pods, BOT, second)
    status = world.wait_until_ready(BOT, second)

    canary = next(each for each in pods if each.name == status["rollout"]["canary"])
    served = canary.engine.loads(BOT)[-1].time
    others = [each for each in pods if each is not canary]
    assert all(served < (each.told_at(second.digest) or 0) for each in others), "nobody is told before"
    for each in pods:
        staged = [call for call in each.engine.calls if call.staged and call.load and second.digest[7:] in call.path]
        assert staged, "every pod tries it"
        assert staged[-1].time < each.engine.loads(BOT)[-1].time, "under another name first"
        assert not each.engine.unloads(BOT), "the name answers all the time"
    assert versions(world) == {second.digest: "Serving", first.digest: "Superseded"}
    assert status["previousDigest"] == first.digest


def test_the_audit_log_shows_the_canary_first_and_few_writes(world: ServingWorld) -> None:
    server = world.objects.server
    if server.audit_log is None:
        pytest.skip("a cluster of your own keeps no audit log for tests")
    pods, _ = serve(world, 3)
    before = len(server.writes_of_operator(world.objects.namespace))
    second = version(world)
    world.move(BOT, second)
    world.wait_until_served(pods, BOT, second)
    canary = world.wait_until_ready(BOT, second)["rollout"]["canary"]
    writes = server.writes_of_operator(world.objects.namespace)[before:]
    told = [each.rpartition("/")[2] for each in writes if each.startswith("patch pods/")]
    assert told[0] == canary
    assert sorted(told) == sorted(each.name for each in pods), "each pod is told once"
    assert {each.rpartition("/")[0] for each in writes} <= {
        "patch pods/status",
        "patch loraadapters/status",
        "create events",
    } | {each.rpartition("/")[0] for each in writes if each.startswith("create events")}
    assert sum(each.startswith("patch loraadapters/status") for each in writes) <= 3 * len(pods) + 3


def test_a_new_pod_starts_with_the_version_that_is_served(world: ServingWorld) -> None:
    _, first = serve(world, 1)
    world.add_pod("late", BOT)
    created = world.objects.wait("Pod", "late")
    desired = json.loads(created["metadata"]["annotations"]["lora-operator.io/desired"])
    assert [each["digest"] for each in desired["adapters"]] == [first.digest], "as it was admitted"
    late = world.kubelet.pod("late")
    wait_for("an engine", lambda: late.engine.runs)
    assert list(late.folder.glob(f"adapters/.store/sha256-{first.digest[7:]}")), "the files are there before the engine"
    world.wait_until_served([late], BOT, first)
    assert late.engine.loads(BOT)[0].time - late.engine.started < ENGINE_RETURN_SECONDS
    assert wait_for("2/2", lambda: world.status(BOT).get("servedPods") == "2/2")
    assert condition(world.found(BOT), "Progressing")["status"] == "False", "that is no rollout"


def test_a_pinned_version_is_served_again_until_the_pin_goes(world: ServingWorld) -> None:
    pods, first = serve(world, 2)
    second = version(world)
    world.move(BOT, second)
    world.wait_until_served(pods, BOT, second)
    world.wait_until_ready(BOT, second)

    world.objects.patch("LoRAAdapter", BOT, {"spec": {"versions": {"pin": first.digest}}})
    world.wait_until_served(pods, BOT, first)
    world.wait_for_condition(BOT, "Ready", "True", "Pinned")
    assert world.found(BOT)["spec"]["source"]["digest"] == second.digest, "the spec is the user's"

    world.objects.patch("LoRAAdapter", BOT, {"spec": {"versions": {"pin": None}}})
    world.wait_until_served(pods, BOT, second)
    world.wait_for_condition(BOT, "Ready", "True", "Served")


def test_a_pin_that_nobody_knows_changes_nothing_and_is_named(world: ServingWorld) -> None:
    pods, first = serve(world, 1)
    world.objects.patch("LoRAAdapter", BOT, {"spec": {"versions": {"pin": f"sha256:{'0' * 64}"}}})
    message = world.wait_for_condition(BOT, "Degraded", "True", "PinNotFound")
    assert message.startswith("spec.versions.pin: 000000000000 is not in status.versions")
    world.wait_until_served(pods, BOT, first, seconds=1)


def test_a_folder_without_digest_and_manifest_is_taken_as_it_is_first_found(world: ServingWorld) -> None:
    first = by_hand(world)
    document = world.adapter(BOT, first)
    del document["spec"]["source"]["digest"]
    world.objects.create(document)
    pods = world.add_pods(2, BOT)
    world.wait_until_served(pods, BOT, first)
    world.wait_until_ready(BOT, first)
    assert "digest" not in world.found(BOT)["spec"]["source"], "the spec is the user's"

    by_hand(world)
    world.add_pod("late", BOT)
    late = world.kubelet.pod("late")
    wait_for(
        "the late pod refuses other content", lambda: getattr(late.agent.adapter(BOT), "permanent", False), seconds=60
    )
    assert late.agent.adapter(BOT).reason == "DigestMismatch"
    assert late.engine.serves() == {}
    world.wait_until_served(pods, BOT, first, seconds=1)
    world.wait_for_condition(BOT, "Degraded", "True", "DigestMismatch")


# A version that is not good.


BAD: dict[str, tuple[Callable[[ServingWorld], Published], str, str]] = {
    "it does nothing": (lambda world: version(world, zero=True), "NoEffect", "exactly as without the adapter"),
    "it is truncated in S3": (truncated, "DigestMismatch", "adapter_model.safetensors"),
    "its rank is too high": (lambda world: version(world, rank=128), "Incompatible", "rank 128 is above the 64"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_version_is_given_up_and_the_old_one_still_answers(world: ServingWorld, case: str) -> None:
    make, reason, words = BAD[case]
    pods, first = serve(world, 2)
    bad = make(world)
    world.move(BOT, bad)
    message = world.wait_for_condition(BOT, "Degraded", "True", reason, seconds=90)
    assert words in message
    assert "is still served" in message
    assert condition(world.found(BOT), "Progressing")["reason"] == "RolledBack"
    assert versions(world) == {bad.digest: "Rejected", first.digest: "Serving"}
    wait_for("all are told the old one", lambda: all(first.digest in each.told[-1][1] for each in pods))
    world.stays("the old version answers", lambda: all_serve(pods, first), seconds=3)
    assert sum(each.told_at(bad.digest) is not None for each in pods) == 1, "one pod tried it"
    assert all(len(each.engine.loads(BOT)) == 1 for each in pods), "it never had the name"
    wait_for("an event", lambda: reason in reasons(world))

    good = version(world)
    world.move(BOT, good)
    world.wait_until_served(pods, BOT, good)
    world.wait_for_condition(BOT, "Degraded", "False")


def test_an_adapter_of_another_base_model_is_refused_with_words(world: ServingWorld) -> None:
    other = of_another_base(world)
    world.add_adapter(BOT, other, baseModel={"name": "owner/other"})
    (pod,) = world.add_pods(1, BOT)
    message = world.wait_for_condition(BOT, "Compatible", "False", "Incompatible")
    assert "the adapter is for owner/other, and the engine serves owner/base" in message
    assert "no version was served before" in world.wait_for_condition(BOT, "Degraded", "True", "Incompatible")
    assert pod.engine.serves() == {}
    assert wait_for("the pod is ready all the same", lambda: pod.agent.passes("/ready"))


def test_what_is_missing_in_s3_is_waited_for(world: ServingWorld) -> None:
    pods, first = serve(world, 1)
    world.move(BOT, not_there(world))
    pod = pods[0]
    wait_for("the agent says so", lambda: getattr(pod.agent.adapter(BOT), "reason", "") == "InputNotFound")
    assert not pod.agent.adapter(BOT).permanent
    assert all_serve(pods, first)
    assert condition(world.found(BOT), "Progressing")["status"] == "True"


def test_of_two_adapters_in_a_pod_the_good_one_is_served(world: ServingWorld) -> None:
    good, bad = version(world), version(world, rank=128)
    world.add_adapter("good", good)
    world.add_adapter("bad", bad)
    pods = world.add_pods(2, "bad,good")
    world.wait_for_condition("bad", "Degraded", "True", "Incompatible")
    world.wait_until_ready("good", good)
    assert all(each.engine.serves() == {"good": good.weights} for each in pods)
    assert condition(world.found("good"), "Degraded")["status"] == "False"
    wait_for("both pods are ready", lambda: all(each.agent.passes("/ready") for each in pods))


def test_an_adapter_that_is_not_there_keeps_no_new_pod_from_serving_the_others(world: ServingWorld) -> None:
    good = version(world)
    world.add_adapter("good", good)
    world.add_adapter("away", not_there(world))
    pods = world.add_pods(2, "away,good")
    world.wait_until_served(pods, "good", good)


def test_the_served_name_cannot_change(world: ServingWorld) -> None:
    world.add_adapter(BOT, version(world), servedName="bot")
    for change in ("another", None):
        patch = json.dumps({"spec": {"servedName": change}})
        where = ("patch", "loraadapter", BOT, "-n", world.objects.namespace, "--type=merge", "-p", patch)
        done = world.objects.server.run_kubectl(*where)
        assert done.returncode != 0
        assert (
            "clients ask for this name, so it cannot change; write another LoRAAdapter beside this one" in done.stderr
        )
