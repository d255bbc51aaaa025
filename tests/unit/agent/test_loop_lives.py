"""The pod's start and readiness, the agent's death, and engines that differ from vLLM, with everything in memory."""

from collections.abc import Callable
from pathlib import Path

from lora_agent.drivers.base import EngineError, ErrorKind
from lora_agent.faults import Fault
from lora_api.delivery import AdapterState
from lora_api.loraadapter import Check, Verify
from lora_api.reasons import Reason
from unit.agent.fakes import Pod, serve, wish

UNFIT = Fault(Reason.INCOMPATIBLE, "rank 64 is above 16", permanent=True)
REFUSED = EngineError(ErrorKind.REFUSED, "LoRA rank 64 is greater than max_lora_rank 16")


class TestReadiness:
    def test_without_a_word_of_what_is_desired_the_engine_starts_after_a_while(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            async with pod.running():
                await pod.passes(25)
                assert not pod.status().started
                await pod.until("patience ends", lambda: pod.status().ready)
                assert pod.time <= 31
                pod.fetcher.blocked = {"one"}
                pod.desire(wish())
                await pod.passes(30)
                assert pod.status().ready, "who comes later is not waited for"

        tell(story)

    def test_required_adapters_are_waited_for_whatever_is_wrong(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.fetcher.faults["one"] = [UNFIT]
            pod.desire(wish("bot"), wish("two", b"two"))
            async with pod.running():
                await serve(pod, "two", b"two")
                await pod.passes(60)
                assert not pod.status().started
                pod.desire(wish("bot", b"fixed"), wish("two", b"two"))
                await pod.until("ready", lambda: pod.status().ready)

        tell(story, required=frozenset({"bot"}))

    def test_what_failed_for_good_lets_the_pod_start_and_stays_forgiven(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.fetcher.faults["one"] = [UNFIT]
            pod.fetcher.blocked = {"fixed"}
            pod.desire(wish("bot"), wish("two", b"two"))
            async with pod.running():
                await pod.until("ready", lambda: pod.status().ready)
                pod.desire(wish("bot", b"fixed"), wish("two", b"two"))
                await pod.passes(30)
                assert pod.status().ready
            async with pod.running():
                await pod.until("ready again", lambda: pod.status().ready)
                assert pod.adapter("bot").state is AdapterState.DOWNLOADING  # type: ignore[union-attr]

        tell(story)


class TestDeath:
    def test_an_agent_that_dies_unloads_nothing_and_the_next_takes_over(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.desire(wish())
            async with pod.running():
                await serve(pod)
            assert pod.driver.adapters == {"bot": pod.path(b"one")}
            calls = list(pod.driver.calls)
            async with pod.running():
                await serve(pod)
                await pod.until("ready", lambda: pod.status().ready)
                await pod.passes(10)
            assert pod.driver.calls == calls
            assert pod.fetcher.fetched == ["one"]

        tell(story)

    def test_what_was_dropped_meanwhile_is_unloaded_by_the_next(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.desire(wish("bot", served_name="answers"))
            async with pod.running():
                await pod.until("served", lambda: "answers" in pod.driver.adapters)
            pod.driver.adapters["lora-probe-0"] = pod.path(b"one")
            pod.driver.up = False
            pod.desire()
            async with pod.running():
                await pod.until("it is known by its LoRAAdapter", lambda: pod.adapter("bot") is not None)
                pod.driver.up = True
                await pod.until("all is gone", lambda: pod.driver.adapters == {} and pod.status().adapters == [])

        tell(story)

    def test_half_a_download_leaves_nothing(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.fetcher.blocked = {"one"}
            pod.desire(wish())
            async with pod.running():
                await pod.until("it comes", lambda: pod.fetcher.running)
            assert [each.name for each in pod.store.folder.iterdir()] == ["agent.json"]

        tell(story)

    def test_a_damaged_folder_is_downloaded_again(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.desire(wish())
            async with pod.running():
                await serve(pod)
            (Path(pod.path(b"one")) / "adapter_model.safetensors").write_bytes(b"???")
            async with pod.running():
                await pod.until("again", lambda: pod.fetcher.fetched == ["one", "one"])
                await pod.until("whole", (Path(pod.path(b"one")) / "adapter_model.safetensors").exists)
                await serve(pod)

        tell(story)


class TestEnginesThatTellNoPaths:
    def test_the_names_of_the_agent_are_known_after_its_restart(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            pod.driver.proves_path = False
            pod.desire(wish())
            async with pod.running():
                await serve(pod)
                pod.driver.always_refuse[pod.path(b"bad")] = REFUSED
                pod.desire(wish(content=b"bad", verify=Verify(effect=Check.OFF, samples=Check.OFF)))
                await pod.until("failed", lambda: pod.adapter().state is AdapterState.FAILED)  # type: ignore[union-attr]
                assert pod.serves("bot", b"one"), "a load that failed changes nothing"
            pod.desire(wish())
            async with pod.running():
                await serve(pod)
                pod.desire()
                await pod.until("gone", lambda: pod.driver.adapters == {})

        tell(story)


class TestEnginesThatReadAFolder:
    def test_the_folder_is_filled_before_the_engine_starts(self, tell: Callable[..., None]) -> None:
        async def story(pod: Pod) -> None:
            driver = pod.driver
            driver.works_offline, driver.can_stage, driver.up = True, False, False
            links: dict[str, str] = {}

            async def load(name: str, path: Path, replaces: str | None) -> None:
                links[name] = str(path)

            driver.load = load  # type: ignore[method-assign]
            pod.desire(wish())
            async with pod.running():
                await pod.until("started", lambda: pod.status().started)
                assert links == {"bot": pod.path(b"one")}
                assert not pod.status().ready
                driver.up = True
                await pod.passes(5)
                assert pod.adapter().state is AdapterState.LOADING  # type: ignore[union-attr]
                driver.adapters = dict(links)
                await serve(pod)

        tell(story)
