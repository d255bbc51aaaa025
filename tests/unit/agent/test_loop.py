"""The loop with an engine and files in memory: what a pod serves after whatever may happen to it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_agent.drivers.base import EngineError, ErrorKind
from lora_agent.faults import Fault
from lora_api.delivery import AdapterState
from lora_api.loraadapter import Check, Verify
from lora_api.reasons import Reason
from unit.agent.fakes import Pod, digest_for, serve, wish

AWAY = Fault(Reason.SERVICE_UNAVAILABLE, "S3 did not answer", permanent=False)
UNFIT = Fault(Reason.INCOMPATIBLE, "rank 64 is above 16", permanent=True)
REFUSED = EngineError(ErrorKind.REFUSED, "LoRA rank 64 is greater than max_lora_rank 16")


def test_a_new_adapter_is_probed_and_served(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish())
        async with pod.running():
            await serve(pod)
            staged = f"lora-probe-{digest_for(b'one')[7:19]}"
            assert pod.driver.calls == [("load", staged), ("unload", staged), ("load", "bot")]
            said = pod.adapter()
            assert said is not None
            assert (said.state, said.reason) == (AdapterState.SERVED, "")
            assert said.probe is not None
            assert said.load_seconds is not None
            assert pod.status().ready
            assert pod.status().started

    tell(story)


def test_without_a_digest_what_came_is_said_and_kept(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        wanted = wish(content=None, uri="s3://bucket/any")
        pod.desire(wanted)
        async with pod.running():
            await serve(pod, content=b"any")
            said = pod.adapter()
            assert said is not None
            assert said.digest == digest_for(b"any")
        async with pod.running():
            await serve(pod, content=b"any")
        assert pod.fetcher.fetched == ["any"], "what was downloaded once is known after a restart"

    tell(story)


def test_an_update_replaces_and_keeps_one_way_back(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        async with pod.running():
            for content in (b"one", b"two", b"three"):
                pod.desire(wish(content=content))
                await serve(pod, content=content)
            await pod.until("the oldest version is removed", lambda: not Path(pod.path(b"one")).exists())
            assert Path(pod.path(b"two")).exists()
            pod.desire(wish(content=b"two"))
            await serve(pod, content=b"two")
        assert pod.fetcher.fetched == ["one", "two", "three"], "the way back needs no download"

    tell(story)


@pytest.mark.parametrize("where", ["download", "compatibility", "probe", "engine"])
def test_a_bad_version_never_takes_the_old_one_away(tell: Callable[..., None], where: str) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish(content=b"one"), wish("other", b"good"))
        async with pod.running():
            await serve(pod)
            if where == "download":
                pod.fetcher.faults["bad"] = [UNFIT]
            elif where == "compatibility":
                pod.compatibility.refusals["bot"] = UNFIT
            elif where == "probe":
                pod.prober.faults[digest_for(b"bad")] = UNFIT
            else:
                pod.driver.always_refuse[pod.path(b"bad")] = REFUSED
            pod.desire(wish(content=b"bad"), wish("other", b"better"))
            await serve(pod, "other", b"better")
            await pod.until("it failed", lambda: (pod.adapter() or wish()).state is AdapterState.FAILED)  # type: ignore[union-attr]
            said = pod.adapter()
            assert said is not None
            assert said.permanent
            assert said.message
            assert (said.digest, said.served_digest) == (digest_for(b"bad"), digest_for(b"one"))
            assert pod.driver.adapters["bot"] == pod.path(b"one")
            assert not any(name.startswith("lora-probe-") for name in pod.driver.adapters)
            assert pod.status().ready
            fetched = list(pod.fetcher.fetched)
            await pod.passes(120)
            assert pod.fetcher.fetched == fetched, "what failed for good is not tried again"
            pod.compatibility.refusals.clear()
            pod.desire(wish(content=b"fixed"), wish("other", b"better"))
            await serve(pod, content=b"fixed")

    tell(story)


def test_an_outage_of_the_store_unloads_nothing_and_is_overcome(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish(content=b"one"))
        async with pod.running():
            await serve(pod)
            pod.fetcher.faults["two"] = [AWAY] * 4
            pod.desire(wish(content=b"two"))
            await pod.until("it is said", lambda: (said := pod.adapter()) and said.reason == Reason.SERVICE_UNAVAILABLE)
            assert pod.serves("bot", b"one")
            began = pod.time
            await serve(pod, content=b"two")
            assert pod.fetcher.fetched.count("two") == 5
            assert 1 + 2 + 4 <= pod.time - began <= 25, "it waits longer each time"

    tell(story)


def test_an_engine_that_restarts_gets_everything_again_within_seconds(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish("bot"), wish("two", b"two"))
        async with pod.running():
            await serve(pod, "bot")
            await serve(pod, "two", b"two")
            pod.driver.restart()
            began = pod.time
            await serve(pod, "bot")
            await serve(pod, "two", b"two")
            assert pod.time - began <= 5
            assert pod.status().engine.restarts == 1
        assert sorted(pod.fetcher.fetched) == ["one", "two"]

    tell(story)


def test_an_engine_that_is_away_is_waited_for(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.driver.up = False
        pod.desire(wish())
        async with pod.running():
            await pod.until("it is on disk", lambda: pod.status().started)
            said = pod.adapter()
            assert said is not None
            await pod.until("it waits", lambda: pod.adapter().reason == Reason.ENGINE_UNREACHABLE)  # type: ignore[union-attr]
            assert pod.adapter().state is AdapterState.ON_DISK  # type: ignore[union-attr]
            assert not pod.status().ready
            assert not pod.status().engine.reachable
            pod.driver.up = True
            await serve(pod)
            pod.driver.up = False
            await pod.until("the engine is seen to be away", lambda: not pod.status().engine.reachable)
            assert pod.serves("bot", b"one"), "one missed look is nothing"
            await pod.until("nothing is served", lambda: not pod.status().ready)
            pod.driver.up = True
            await serve(pod)

    tell(story)


def test_what_is_not_desired_any_more_is_unloaded_and_removed(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.driver.adapters["theirs"] = "/models/theirs"
        pod.desire(wish("bot"), wish("two", b"two"))
        async with pod.running():
            await serve(pod, "bot")
            await serve(pod, "two", b"two")
            pod.desire(wish("two", b"two"))
            await pod.until("it is gone", lambda: pod.adapter("bot") is None and not Path(pod.path(b"one")).exists())
            assert sorted(pod.driver.adapters) == ["theirs", "two"], "names of others are never touched"

    tell(story)


def test_a_removal_waits_for_an_engine_that_is_away(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish())
        async with pod.running():
            await serve(pod)
            pod.driver.up = False
            pod.desire()
            await pod.until("it is leaving", lambda: (said := pod.adapter()) and said.state is AdapterState.UNLOADING)
            await pod.passes(30)
            assert pod.adapter() is not None
            pod.driver.up = True
            await pod.until("it is gone", lambda: pod.adapter() is None)
            assert pod.driver.adapters == {}

    tell(story)


def test_another_served_name_unloads_the_one_before(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish("bot", served_name="old"))
        async with pod.running():
            await pod.until("served", lambda: "old" in pod.driver.adapters)
            pod.desire(wish("bot", served_name="new"))
            await pod.until("moved", lambda: list(pod.driver.adapters) == ["new"])
        assert pod.fetcher.fetched == ["one"]

    tell(story)


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_desired_file_that_is_lost_unloads_nothing(tell: Callable[..., None], text: str | None) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish())
        async with pod.running():
            await serve(pod)
            digest = pod.status().desired_digest
            pod.settings.desired.unlink() if text is None else pod.settings.desired.write_text(text)
            await pod.passes(60)
            assert pod.serves("bot", b"one")
            assert pod.status().desired_digest == digest
            assert pod.metrics.desired_invalid is (text == "{")
        async with pod.running():  # the next agent knows nothing of what is desired
            await pod.passes(60)
            assert pod.driver.adapters["bot"] == pod.path(b"one")
            assert Path(pod.path(b"one")).exists()
            assert pod.status().desired_digest == ""

    tell(story)


def test_one_that_never_comes_blocks_nobody(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.fetcher.blocked = {"stuck"}
        pod.fetcher.faults["faulty"] = [AWAY] * 1000
        names = ["a", "b", "c", "d", "e"]
        pod.desire(wish("stuck", b"stuck"), wish("faulty", b"faulty"), *(wish(each, each.encode()) for each in names))
        async with pod.running():
            for each in names:
                await serve(pod, each, each.encode())
            await pod.until("one is on its way", lambda: pod.adapter("stuck").state is AdapterState.DOWNLOADING)  # type: ignore[union-attr]
            await pod.until("another tries beside it", lambda: pod.fetcher.most_running == 2)
            assert pod.driver.most_running == 1
            assert not pod.status().ready
            pod.desire(*(wish(each, each.encode()) for each in names))
            await pod.until("nobody waits for it any more", lambda: pod.status().ready and pod.fetcher.running == 0)

    tell(story)


def test_downloads_never_outgrow_the_volume(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish("a", b"a" * 60), wish("b", b"b" * 60))
        async with pod.running():
            await pod.until("one is served", lambda: any(pod.serves(each, each.encode() * 60) for each in "ab"))
            said = [pod.adapter(each).reason for each in "ab"]  # type: ignore[union-attr]
            assert sorted(said) == ["", Reason.DISK_FULL]

    tell(story, store_bytes=100)


def test_of_two_adapters_with_one_name_the_first_is_served(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.desire(wish("a", b"one", served_name="bot"), wish("b", b"two", served_name="bot"))
        async with pod.running():
            await pod.until("served", lambda: pod.driver.adapters.get("bot") == pod.path(b"one"))
            loser = pod.adapter("b")
            assert loser is not None
            assert (loser.state, loser.reason, loser.served_digest) == (AdapterState.FAILED, Reason.NAME_CONFLICT, "")
            pod.desire(wish("b", b"two", served_name="bot"))
            await pod.until("the other one", lambda: pod.driver.adapters.get("bot") == pod.path(b"two"))

    tell(story)


def test_a_name_of_the_engines_own_is_left_alone(tell: Callable[..., None]) -> None:
    async def story(pod: Pod) -> None:
        pod.driver.adapters["bot"] = "/models/theirs"
        pod.desire(wish())
        async with pod.running():
            await pod.until("it is said", lambda: (said := pod.adapter()) and said.reason == Reason.NAME_CONFLICT)
            await pod.passes(30)
            assert pod.driver.adapters == {"bot": "/models/theirs"}
            del pod.driver.adapters["bot"]
            await serve(pod)

    tell(story)


@pytest.mark.parametrize("kind", [ErrorKind.BUSY, ErrorKind.UNREACHABLE, ErrorKind.NOT_FOUND])
def test_an_engine_that_cannot_now_is_asked_again(tell: Callable[..., None], kind: ErrorKind) -> None:
    async def story(pod: Pod) -> None:
        pod.driver.refuse[pod.path(b"one")] = [EngineError(kind, "not now")] * 3
        pod.desire(wish(verify=Verify(effect=Check.OFF, samples=Check.OFF)))
        async with pod.running():
            await serve(pod)
        assert pod.time >= 1 + 2 + 4, "with a longer pause each time"
        assert pod.metrics.loads == {"failure": 3, "success": 1}

    tell(story)
