"""Telling pods what to serve: few requests, none that undoes another's, and a clear word where it cannot be done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import BaseModelReference
from lora_api.names import DESIRED_ANNOTATION
from lora_operator.cluster.client import ApiError, ChangedError
from lora_operator.cluster.desires import DesireWriter
from lora_operator.cluster.inference import InferencePods
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.inference import InferencePod, read_desired, with_entries

Document = dict[str, Any]


def entry(name: str, uri: str = "s3://models/a") -> DesiredAdapter:
    return DesiredAdapter(name=name, served_name=name, uri=uri, base_model=BaseModelReference(name="a/b"))


class Server:
    """The pods as an API server keeps them. `before` is called before each write, and may do worse."""

    def __init__(self) -> None:
        self.pods: dict[str, Document] = {}
        self.writes: list[str] = []
        self.reads = 0
        self.before: Callable[[int], Awaitable[None]] | None = None
        self._version = 0

    def put(self, name: str, text: str | None = None, uid: str = "") -> Document:
        self._version += 1
        annotations = {DESIRED_ANNOTATION: text} if text is not None else {}
        meta = {"namespace": "team-a", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(self._version)}
        self.pods[name] = {"metadata": meta | {"annotations": annotations}}
        return self.pods[name]

    def text(self, name: str) -> str | None:
        found: str | None = self.pods[name]["metadata"]["annotations"].get(DESIRED_ANNOTATION)
        return found

    async def get(self, resource: Any, namespace: str, name: str) -> Document | None:
        self.reads += 1
        await asyncio.sleep(0)
        return self.pods.get(name)

    async def set_annotation(
        self, resource: Any, namespace: str, name: str, uid: str, annotation: str, before: str | None, after: str
    ) -> Document | None:
        self.writes.append(name)
        await asyncio.sleep(0)
        if self.before:
            await self.before(len(self.writes))
        if name not in self.pods:
            return None
        if self.text(name) != before or self.pods[name]["metadata"]["uid"] != uid:
            raise ChangedError("the server rejected our request", invalid=True)
        return self.put(name, after, uid)


class World:
    """A server, the pods as they are known, and the writer."""

    def __init__(self, *names: str) -> None:
        self.server = Server()
        self.known = InferencePods(self.server, [], lambda *_: None)  # type: ignore[arg-type]
        for name in names:
            self.known.listed(self.server.put(name))
        self.writer = DesireWriter(self.server, self.known, quiet=0.01, longest=0.2)  # type: ignore[arg-type]

    def pod(self, name: str = "p") -> InferencePod:
        found = self.known.get("team-a", name)
        assert found is not None
        return found

    def told(self, name: str = "p") -> list[str]:
        return sorted(read_desired(self.server.text(name)))


def play(scenario: Callable[[World], Awaitable[None]], *names: str) -> World:
    async def run() -> World:
        world = World(*(names or ("p",)))
        async with asyncio.timeout(30):
            await scenario(world)
        return world

    return asyncio.run(run())


def test_an_entry_is_put_in_changed_and_taken_out() -> None:
    async def scenario(world: World) -> None:
        pod = world.pod()
        await world.writer.submit(pod, {"a": entry("a")})
        assert set(world.pod().desired) == {"a"}, "it is known before the watch brings it"
        await world.writer.submit(pod, {"b": entry("b")})
        assert world.told() == ["a", "b"], "it starts from what is known now, and not from what the caller has seen"
        await world.writer.submit(pod, {"a": entry("a", "s3://models/b"), "b": None})
        await world.writer.submit(pod, {"a": None})

    world = play(scenario)
    assert world.server.text("p") == "{}"
    assert (len(world.server.writes), world.server.reads) == (4, 0)


def test_what_a_pod_is_told_already_is_not_written() -> None:
    async def scenario(world: World) -> None:
        await world.writer.submit(world.pod(), {"a": None})
        await world.writer.submit(world.pod(), {"a": entry("a")})
        await world.writer.submit(world.pod(), {"a": entry("a")})

    assert play(scenario).server.writes == ["p"]


def test_200_adapters_for_50_pods_are_50_requests() -> None:
    pods = [f"p-{number}" for number in range(50)]
    adapters = [f"a-{number}" for number in range(200)]

    async def scenario(world: World) -> None:
        found = [world.pod(each) for each in pods]
        await asyncio.gather(*(world.writer.submit(pod, {each: entry(each)}) for each in adapters for pod in found))

    world = play(scenario, *pods)
    assert sorted(world.server.writes) == sorted(pods)
    assert all(world.told(each) == sorted(adapters) for each in pods)


def test_eight_workers_that_do_not_wait_make_one_request_a_pod() -> None:
    """As a start goes: eight passes at a time, each of which tells all pods of one adapter."""
    pods = [f"p-{number}" for number in range(5)]
    adapters = iter([f"a-{number}" for number in range(200)])

    async def scenario(world: World) -> None:
        written: list[asyncio.Future[None]] = []

        async def worker() -> None:
            for each in adapters:
                await asyncio.sleep(0)  # reads its LoRAAdapter
                written.extend(world.writer.submit(world.pod(pod), {each: entry(each)}) for pod in pods)

        await asyncio.gather(*(worker() for _ in range(8)))
        await asyncio.gather(*written)

    world = play(scenario, *pods)
    assert len(world.server.writes) <= 2 * len(pods)
    assert all(len(world.told(each)) == 200 for each in pods)


def test_what_is_wanted_during_a_write_is_written_next() -> None:
    async def scenario(world: World) -> None:
        later: list[asyncio.Future[None]] = []

        async def during(number: int) -> None:
            if number == 1:
                later.append(world.writer.submit(world.pod(), {"b": entry("b")}))
                later.append(world.writer.submit(world.pod(), {"c": entry("c")}))

        world.server.before = during
        await world.writer.submit(world.pod(), {"a": entry("a")})
        assert world.told() == ["a"]
        await asyncio.gather(*later)

    world = play(scenario)
    assert (world.told(), len(world.server.writes)) == (["a", "b", "c"], 2)


def test_wishes_that_never_stop_are_written_all_the_same() -> None:
    async def scenario(world: World) -> None:
        first = world.writer.submit(world.pod(), {"a": entry("a")})
        number = 0
        while not first.done():
            number += 1
            world.writer.submit(world.pod(), {f"a-{number % 50}": entry(f"a-{number % 50}")})
            await asyncio.sleep(0.001)
        await world.writer.close()

    assert "a" in play(scenario).told()


def test_another_operators_write_is_not_undone() -> None:
    async def scenario(world: World) -> None:
        async def other(number: int) -> None:
            if number == 1:
                world.server.put("p", with_entries(None, {"theirs": entry("theirs")}))

        world.server.before = other
        await world.writer.submit(world.pod(), {"ours": entry("ours")})

    world = play(scenario)
    assert world.told() == ["ours", "theirs"]
    assert (len(world.server.writes), world.server.reads) == (2, 1)


def test_a_pod_that_others_write_all_the_time_is_given_up_after_three_attempts() -> None:
    async def scenario(world: World) -> None:
        async def other(number: int) -> None:
            world.server.put("p", with_entries(None, {f"theirs-{number}": entry(f"theirs-{number}")}))

        world.server.before = other
        with pytest.raises(ApiError, match="pod p is told was changed by others 3 times"):
            await world.writer.submit(world.pod(), {"ours": entry("ours")})

    assert len(play(scenario).server.writes) == 3


def test_a_write_whose_answer_was_lost_is_found_done() -> None:
    async def scenario(world: World) -> None:
        async def lost(number: int) -> None:
            if number == 1:
                world.server.put("p", with_entries(None, {"a": entry("a")}))
                raise TimeoutError

        world.server.before = lost
        with pytest.raises(TimeoutError):
            await world.writer.submit(world.pod(), {"a": entry("a")})
        await world.writer.submit(world.pod(), {"a": entry("a")})

    world = play(scenario)
    assert (world.told(), len(world.server.writes), world.server.reads) == (["a"], 2, 1)


def test_a_pod_that_is_gone_is_told_nothing_and_that_is_no_error() -> None:
    async def scenario(world: World) -> None:
        gone, replaced = world.pod("gone"), world.pod("replaced")
        del world.server.pods["gone"]
        world.server.put("replaced", uid="another")
        await world.writer.submit(gone, {"a": entry("a")})
        await world.writer.submit(replaced, {"a": entry("a")})

    world = play(scenario, "gone", "replaced")
    assert world.server.text("replaced") is None
    assert len(world.server.writes) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        ChangedError("metadata.annotations: Too long", invalid=True),
        RefusedError(status=403, subject="Pod p", message="Too long"),
    ],
)
def test_what_the_server_refuses_is_refused_and_not_tried_again(refusal: Exception) -> None:
    async def scenario(world: World) -> None:
        async def refuse(number: int) -> None:
            raise refusal

        world.server.before = refuse
        with pytest.raises(RefusedError, match="Too long"):
            await world.writer.submit(world.pod(), {"a": entry("a")})

    assert len(play(scenario).server.writes) == 1


def test_a_conflict_with_the_kubelet_is_tried_again() -> None:
    async def scenario(world: World) -> None:
        async def conflict(number: int) -> None:
            if number < 3:
                raise ChangedError("the object has been modified", invalid=False)

        world.server.before = conflict
        await world.writer.submit(world.pod(), {"a": entry("a")})

    assert play(scenario).told() == ["a"]


def test_one_adapter_too_many_is_refused_alone_and_what_makes_room_goes_first() -> None:
    async def scenario(world: World) -> None:
        full = with_entries(None, {f"a-{number}": entry(f"a-{number}") for number in range(256)})
        world.known.listed(world.server.put("p", full))
        results = await asyncio.gather(
            world.writer.submit(world.pod(), {"one": entry("one")}),
            world.writer.submit(world.pod(), {"two": entry("two")}),
            world.writer.submit(world.pod(), {"a-7": None}),
            return_exceptions=True,
        )
        assert results[0] is None
        assert isinstance(results[1], RefusedError)
        assert str(results[1]).endswith("257 adapters; a pod serves at most 256")
        assert results[2] is None

    world = play(scenario)
    assert {"one"} < set(world.told())
    assert not {"two", "a-7"} & set(world.told())
    assert len(world.server.writes) == 1


def test_nobody_is_refused_for_what_another_one_wishes() -> None:
    """The server takes two entries, and refuses more: other annotations of the pod leave no room."""

    async def scenario(world: World) -> None:
        world.known.listed(world.server.put("p", with_entries(None, {"a": entry("a"), "b": entry("b")})))
        write = world.server.set_annotation

        async def bounded(*arguments: Any) -> Document | None:
            if len(read_desired(arguments[-1])) > 2:
                raise ChangedError("Too long", invalid=True)
            return await write(*arguments)

        world.server.set_annotation = bounded  # type: ignore[method-assign]
        wishes: list[dict[str, DesiredAdapter | None]] = [{"c": entry("c")}, {"d": entry("d")}, {"a": None}]
        results = await asyncio.gather(
            *(world.writer.submit(world.pod(), each) for each in wishes), return_exceptions=True
        )
        assert [type(each) for each in results] == [type(None), RefusedError, type(None)]

    assert play(scenario).told() == ["b", "c"]


def test_an_annotation_that_is_too_long_is_refused_in_words() -> None:
    async def scenario(world: World) -> None:
        long = {f"a-{number}": entry(f"a-{number}", "s3://models/" + "x" * 1000) for number in range(200)}
        with pytest.raises(
            RefusedError, match=r"of pod p was refused .* 200 adapters take \d+ bytes; a pod can be told 204800"
        ):
            await world.writer.submit(world.pod(), long)

    assert play(scenario).server.writes == []


def test_after_the_end_nothing_is_written_and_whoever_waits_is_told() -> None:
    async def scenario(world: World) -> None:
        waiting = world.writer.submit(world.pod(), {"a": entry("a")})
        await asyncio.sleep(0)
        await world.writer.close()
        for each in (waiting, world.writer.submit(world.pod(), {"a": entry("a")})):
            with pytest.raises(ApiError, match="this operator is ending"):
                await each

    assert play(scenario).server.writes == []
