"""Inference pods: how they are read, how they are told what to serve, and how they are found."""

import gc
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_api.delivery import MAX_ADAPTERS, Desired, DesiredAdapter
from lora_api.loraadapter import BaseModelReference, Check, Verify
from lora_api.sources import Storage
from lora_operator.cluster.inference import InferencePods
from lora_operator.domain import inference
from lora_operator.domain.inference import (
    MAX_DESIRED_BYTES,
    InferencePod,
    TooMuchError,
    read_desired,
    read_inference_pod,
    with_entries,
)

Document = dict[str, Any]
DIGEST = "sha256:" + "0" * 64


def entry(name: str, *, uri: str = "s3://models/a", **fields: Any) -> DesiredAdapter:
    return DesiredAdapter(
        name=name, served_name=name, uri=uri, digest=DIGEST, base_model=BaseModelReference(name="a/b"), **fields
    )


def text_of(*names: str) -> str:
    return Desired(adapters=[entry(each) for each in names]).encode()


def pod(
    name: str = "vllm-1", *, uid: str = "", version: int = 1, created: str = "2026-01-02T03:04:05Z", **annotations: str
) -> Document:
    meta = {
        "namespace": "team-a",
        "name": name,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": created,
        "annotations": {f"lora-operator.io/{key}": value for key, value in annotations.items()},
    }
    spec = {
        "nodeName": "node-1",
        "initContainers": [{"name": "lora-agent", "image": "agent"}],
        "containers": [{"name": "vllm", "image": "vllm"}],
    }
    states = [{"name": "lora-agent", "state": {"running": {}}}]
    return {
        "metadata": meta,
        "spec": spec,
        "status": {"phase": "Running", "podIP": "10.0.0.1", "initContainerStatuses": states},
    }


def test_a_pod_as_decisions_see_it() -> None:
    injected = {
        "engine": "vllm",
        "container": "vllm",
        "port": 8000,
        "maxRank": 64,
        "notes": [{"reason": "R", "message": "m"}],
    }
    found = read_inference_pod(pod(adapters="b, a", desired=text_of("a"), injected=json.dumps(injected)))
    assert found == InferencePod(
        namespace="team-a",
        name="vllm-1",
        uid="uid-vllm-1",
        node="node-1",
        ip="10.0.0.1",
        adapters=("b", "a"),
        desired={"a": entry("a")},
        desired_text=text_of("a"),
        injected=True,
        engine="vllm",
        notes=(("R", "m"),),
        running=True,
        created="2026-01-02T03:04:05Z",
    )


def test_a_pod_of_which_nothing_is_known_yet() -> None:
    found = read_inference_pod({"metadata": {"namespace": "team-a", "name": "p"}})
    assert found == InferencePod(namespace="team-a", name="p", uid="")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        (" a , b,a,, ", ("a", "b")),
        ("A,b_c,-d,e.f,../g," + "h" * 254, ("e.f",)),
        ("ä,a\nb,c", ("c",)),
    ],
    ids=["none", "trimmed, each once", "what can be no name", "other characters"],
)
def test_the_adapters_that_a_pod_asks_for(text: str, names: tuple[str, ...]) -> None:
    assert read_inference_pod(pod(adapters=text)).adapters == names


@pytest.mark.parametrize(
    ("phase", "where", "state", "running", "ended"),
    [
        ("Running", "initContainerStatuses", "running", True, False),
        ("Running", "containerStatuses", "running", True, False),
        ("Pending", "initContainerStatuses", "running", True, False),
        ("Pending", "initContainerStatuses", "waiting", False, False),
        ("Running", "initContainerStatuses", "terminated", False, False),
        ("Succeeded", "initContainerStatuses", "running", False, True),
        ("Failed", "initContainerStatuses", "terminated", False, True),
    ],
)
def test_when_the_agent_of_a_pod_runs(phase: str, where: str, state: str, running: bool, ended: bool) -> None:
    document = pod()
    document["status"] = {"phase": phase, where: [{"name": "lora-agent", "state": {state: {}}}]}
    found = read_inference_pod(document)
    assert (found.running, found.ended) == (running, ended)


def test_a_pod_that_was_made_without_the_webhook() -> None:
    document = pod()
    document["spec"] = {"containers": [{"name": "vllm"}]}
    document["status"] = {"phase": "Running", "containerStatuses": [{"name": "vllm", "state": {"running": {}}}]}
    found = read_inference_pod(document)
    assert (found.injected, found.running) == (False, False)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"notes": 3}', '{"engine": 3, "notes": [3, {"reason": []}]}', "[" * 100_000]
)
def test_a_word_of_the_webhook_that_is_none_says_nothing(text: str) -> None:
    found = read_inference_pod(pod(injected=text))
    assert found.engine == ""
    assert set(found.notes) <= {("", "")}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, []),
        ("", []),
        ("{}", []),
        ("{", []),
        ("[]", []),
        ('{"adapters": {"a": 1}}', []),
        ('{"adapters": [3, null, {"name": "a"}]}', []),
        (json.dumps({"adapters": [entry("a").wire(), entry("b").wire() | {"uri": "ftp://x"}]}), ["a"]),
        (json.dumps({"adapters": [entry("a").wire() | {"newer": 1}], "newer": 2}), ["a"]),
    ],
    ids=["never told", "empty", "nothing", "cut", "list", "no list", "no entries", "one bad", "of a newer version"],
)
def test_what_a_pod_is_told_as_far_as_it_can_be_read(text: str | None, names: list[str]) -> None:
    assert sorted(read_desired(text)) == names


def test_equal_entries_are_one_object_in_all_pods_and_go_with_the_last_of_them() -> None:
    one, other = (read_inference_pod(pod(name, desired=text_of("a", "b"))) for name in ("one", "other"))
    assert one.desired["a"] is other.desired["a"]
    assert read_inference_pod(pod("one", desired=text_of("a", "b")), one).desired is one.desired
    del one, other
    gc.collect()
    assert not [each for each in inference._KNOWN.values() if each.name in ("a", "b")]


CASES: list[tuple[str | None, dict[str, DesiredAdapter | None], str | None]] = [
    (None, {"a": entry("a")}, text_of("a")),
    (None, {"a": None}, None),
    (text_of("b"), {"a": entry("a")}, text_of("a", "b")),
    (text_of("a", "b"), {"a": None}, text_of("b")),
    (text_of("a"), {"a": None}, "{}"),
    (text_of("a"), {"a": entry("a")}, text_of("a")),
    (
        text_of("a", "b"),
        {"a": entry("a", revision="r"), "b": None},
        Desired(adapters=[entry("a", revision="r")]).encode(),
    ),
    ("{", {"a": None}, "{"),
    ("{", {"a": entry("a")}, text_of("a")),
]


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    CASES,
    ids=[
        "the first",
        "nothing from nothing",
        "one more",
        "one less",
        "the last one leaves a text, which unloads",
        "the same",
        "several",
        "a broken text that need not change",
        "a broken text is replaced",
    ],
)
def test_entries_are_put_in_and_taken_out(
    before: str | None, changes: dict[str, DesiredAdapter | None], after: str | None
) -> None:
    assert with_entries(before, changes) == after
    assert with_entries(after, changes) == after, "what it says already is not written again"


def test_a_text_that_says_the_same_in_other_words_is_left_as_it_is() -> None:
    spaced = json.dumps(json.loads(text_of("a")), indent=1)
    assert with_entries(spaced, {"a": entry("a")}) == spaced


names = st.sampled_from(["a", "b", "c", "d"])
entries = st.builds(
    lambda revision, effect, endpoint: {
        "revision": revision,
        "verify": Verify(effect=effect),
        "storage": Storage(endpoint=endpoint) if endpoint else None,
    },
    st.sampled_from([None, "r1", "r2"]),
    st.sampled_from(list(Check)),
    st.sampled_from([None, "http://store:9000"]),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(names, st.none() | entries), max_size=12))
def test_any_changes_leave_what_was_wanted_last(changes: list[tuple[str, dict[str, Any] | None]]) -> None:
    wanted: dict[str, DesiredAdapter] = {}
    one_by_one: str | None = None
    for name, fields in changes:
        change = entry(name, **fields) if fields is not None else None
        wanted |= {name: change} if change else {}
        if change is None:
            wanted.pop(name, None)
        one_by_one = with_entries(one_by_one, {name: change})
        assert read_desired(one_by_one) == wanted
    assert with_entries(None, dict(wanted)) == (one_by_one if wanted else None)


def test_no_more_adapters_than_a_pod_takes() -> None:
    full = with_entries(None, {f"a-{number}": entry(f"a-{number}") for number in range(MAX_ADAPTERS)})
    with pytest.raises(TooMuchError, match="257 adapters; a pod serves at most 256"):
        with_entries(full, {"one-more": entry("one-more")})


def test_no_more_bytes_than_an_annotation_may_have() -> None:
    long = {f"a-{number}": entry(f"a-{number}", uri="s3://models/" + "x" * 1000) for number in range(200)}
    with pytest.raises(TooMuchError, match=rf"200 adapters take \d+ bytes; a pod can be told {MAX_DESIRED_BYTES}"):
        with_entries(None, dict(long))


class Heard(list[tuple[InferencePod | None, InferencePod | None]]):
    """What the pods said of changes."""

    def __call__(self, before: InferencePod | None, after: InferencePod | None) -> None:
        self.append((before, after))


def known(*documents: Document) -> tuple[InferencePods, Heard]:
    heard = Heard()
    pods = InferencePods(None, [], heard)  # type: ignore[arg-type]
    for each in documents:
        pods.changed(each)
    return pods, heard


def found(pods: InferencePods, adapter: str, namespace: str = "team-a") -> list[str]:
    return [each.name for each in pods.for_adapter(namespace, adapter)]


def test_the_pods_of_an_adapter_oldest_first() -> None:
    pods, _ = known(
        pod("new", created="2026-01-02T04:00:00Z", adapters="a"),
        pod("z", adapters="a"),
        pod("y", adapters="a,b"),
        pod("other", adapters="b"),
    )
    assert found(pods, "a") == ["y", "z", "new"]
    assert found(pods, "b") == ["other", "y"]
    assert found(pods, "a", "team-b") == []
    assert [each.name for each in pods.all()] == ["other", "y", "z", "new"]


def test_a_pod_that_no_longer_asks_for_what_it_serves_is_found_until_it_is_told_so() -> None:
    pods, _ = known(pod(adapters="a", desired=text_of("a")))
    pods.changed(pod(version=2, adapters="", desired=text_of("a")))
    assert found(pods, "a") == ["vllm-1"]
    pods.changed(pod(version=3, adapters="", desired="{}"))
    assert found(pods, "a") == []


def test_only_what_matters_to_a_decision_is_a_change() -> None:
    pods, heard = known(pod(adapters="a"))
    beat = pod(version=2, adapters="a")
    beat["status"]["conditions"] = [{"type": "Ready", "lastProbeTime": "2026-01-02T03:04:06Z"}]
    pods.changed(beat)
    assert len(heard) == 1
    moved = pod(version=3, adapters="a")
    moved["status"]["podIP"] = "10.0.0.2"
    pods.changed(moved)
    assert [each and each.ip for each in heard[1]] == ["10.0.0.1", "10.0.0.2"]


def test_a_pod_that_is_gone_is_found_no_more() -> None:
    pods, heard = known(pod(adapters="a"))
    pods.gone("team-a", "vllm-1", "uid-of-another")
    assert found(pods, "a") == ["vllm-1"]
    pods.gone("team-a", "vllm-1", "uid-vllm-1")
    assert (found(pods, "a"), pods.get("team-a", "vllm-1"), pods._by_adapter) == ([], None, {})
    assert heard[-1][1] is None


def test_an_event_from_before_a_write_does_not_take_back_what_the_answer_said() -> None:
    pods, heard = known(pod(version=5, adapters="a"))
    pods.learn(pod(version=9, adapters="a", desired=text_of("a")))
    pods.changed(pod(version=7, adapters="a"))
    current = pods.get("team-a", "vllm-1")
    assert current is not None
    assert set(current.desired) == {"a"}
    pods.changed(pod(version=9, adapters="a", desired=text_of("a")))
    assert len(heard) == 2, "the event of the write itself is no news"


def test_a_list_is_believed_also_when_an_older_etcd_was_restored() -> None:
    pods, _ = known(pod(version=500, adapters="a"))
    pods.listed(pod(version=9, adapters="b"))
    assert (found(pods, "a"), found(pods, "b")) == ([], ["vllm-1"])


def test_an_answer_about_a_pod_that_is_not_known_is_left_to_the_watch() -> None:
    pods, heard = known()
    pods.learn(pod(version=3, adapters="a"))
    assert (pods.all(), heard) == ([], [])
    pods, heard = known(pod(uid="new", adapters="a"))
    pods.learn(pod(uid="old", version=3, adapters="b"))
    assert (found(pods, "b"), len(heard)) == ([], 1)
