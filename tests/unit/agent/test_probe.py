"""What the probe says of versions that work, do nothing, or are applied wrongly."""

import asyncio
from pathlib import Path

import pytest

from lora_agent.drivers.base import Driver, EngineError, ErrorKind, Listing, ProbeUnsupportedError, Prompt
from lora_agent.faults import Fault
from lora_agent.probe import NEUTRAL_TEXTS, compare, effect_of, probe, verdict
from lora_api.artifacts import GoldenSample
from lora_api.delivery import ProbeResult, SampleResult
from lora_api.loraadapter import Check, Verify
from lora_api.reasons import Reason
from support.engines.adapters import write_adapter
from support.engines.driving import drive
from support.engines.lorax import Lorax
from support.engines.running import Running, running
from support.engines.sglang import Sglang
from support.engines.standalone import likeliest, next_tokens, read_adapter
from support.engines.vllm import Vllm

BASE = {"1": -1.0, "2": -2.0, "3": -3.0}
ADAPTER = {"1": -3.0, "2": -2.0, "4": -1.0}
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12]]


class Scripted:
    """A driver that answers from a table, or fails."""

    kind = "scripted"
    can_stage = True
    proves_path = True
    works_offline = False

    def __init__(
        self,
        base: dict[str, float] | Exception = BASE,
        adapter: dict[str, float] | Exception = ADAPTER,
        tokens: Exception | None = None,
    ) -> None:
        self.answers = {None: base, "a": adapter}
        self.tokens = tokens
        self.asked: list[tuple[str | None, Prompt]] = []

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        self.asked.append((name, prompt))
        if self.tokens and not isinstance(prompt, str):
            raise self.tokens
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        raise AssertionError("a probe loads nothing")

    async def unload(self, name: str, path: Path | None) -> None:
        raise AssertionError("a probe unloads nothing")

    async def list(self) -> Listing:
        raise AssertionError("a probe needs no list")


def sample(base: dict[str, float] = BASE, adapter: dict[str, float] = ADAPTER) -> GoldenSample:
    return GoldenSample(prompt_tokens=[1, 2], base=base, adapter=adapter)


def ask(
    driver: Scripted, samples: list[GoldenSample] | None = None, verify: Verify | None = None
) -> tuple[ProbeResult, Fault | None]:
    return asyncio.run(probe(driver, "a", Path("/x"), samples or [], verify or Verify()))


def test_the_effect_counts_absent_tokens_as_the_lowest() -> None:
    # 1: |-1 - -3|, 2: 0, 3: |-3 - -3|, 4: |-3 - -1|
    assert effect_of([BASE], [ADAPTER]) == pytest.approx(1.0)
    assert effect_of([BASE, BASE], [ADAPTER, BASE]) == pytest.approx(0.5)
    assert effect_of([BASE], [BASE]) == 0.0


def test_without_samples_neutral_texts_are_asked() -> None:
    driver = Scripted()
    assert ask(driver) == (ProbeResult(effect=1.0), None)
    assert driver.asked == [(None, each) for each in NEUTRAL_TEXTS] + [("a", each) for each in NEUTRAL_TEXTS]


def test_with_samples_their_prompts_are_asked_once() -> None:
    driver = Scripted()
    result, fault = ask(driver, [sample()])
    assert fault is None
    assert result == ProbeResult(effect=1.0, samples=SampleResult(compared=1, agreed=1, distance=0.0))
    assert driver.asked == [(None, [1, 2]), ("a", [1, 2])]


@pytest.mark.parametrize(
    ("verify", "reason", "effect"),
    [
        (Verify(), Reason.NO_EFFECT, 0.0),
        (Verify(effect=Check.WARN), None, 0.0),
        (Verify(effect=Check.OFF), None, None),
    ],
)
def test_an_adapter_that_does_nothing(verify: Verify, reason: Reason | None, effect: float | None) -> None:
    almost = {token: value + 5e-7 for token, value in BASE.items()}
    result, fault = ask(Scripted(adapter=almost), verify=verify)
    assert result.effect == (None if effect is None else pytest.approx(effect, abs=1e-6))
    assert (fault and fault.reason) == reason
    assert fault is None or fault.permanent


@pytest.mark.parametrize(
    ("verify", "reason"),
    [(Verify(), Reason.SAMPLES_DIFFER), (Verify(samples=Check.WARN), None), (Verify(samples=Check.OFF), None)],
)
def test_an_engine_that_says_something_else(verify: Verify, reason: Reason | None) -> None:
    other = {"1": -4.0, "2": -0.5, "9": -1.0}
    result, fault = ask(Scripted(adapter=other), [sample()], verify)
    assert (fault and fault.reason) == reason
    assert fault is None or fault.permanent
    if verify.samples is Check.OFF:
        assert result.samples is None
    else:
        assert result.samples
        assert (result.samples.compared, result.samples.agreed) == (1, 0)
        assert result.samples.distance > 0.5


def test_nothing_is_asked_when_nothing_is_to_be_checked() -> None:
    driver = Scripted()
    assert ask(driver, [sample()], Verify(effect=Check.OFF, samples=Check.OFF)) == (ProbeResult(), None)
    assert ask(driver, [], Verify(effect=Check.OFF)) == (ProbeResult(), None)
    assert driver.asked == []


def test_the_base_is_not_asked_for_samples_alone() -> None:
    driver = Scripted()
    ask(driver, [sample()], Verify(effect=Check.OFF))
    assert driver.asked == [("a", [1, 2])]


def test_an_engine_that_cannot_say_leaves_it_open() -> None:
    assert ask(Scripted(base=ProbeUnsupportedError("no")), [sample()]) == (ProbeResult(), None)


def test_an_engine_that_takes_no_token_ids_is_asked_for_the_effect_by_texts() -> None:
    driver = Scripted(tokens=ProbeUnsupportedError("texts only"))
    assert ask(driver, [sample()]) == (ProbeResult(effect=1.0), None)
    assert ask(driver, [sample()], Verify(effect=Check.OFF)) == (ProbeResult(), None)


def test_texts_of_tokens_are_not_compared_with_ids() -> None:
    texts = {" Paris": -0.1, " Rome": -3.0}
    result, fault = ask(Scripted(base={" Paris": -2.0, " Rome": -0.5}, adapter=texts), [sample()])
    assert fault is None
    assert result.samples is None
    assert result.effect


@pytest.mark.parametrize("kind", ErrorKind)
def test_an_error_of_the_engine_is_tried_again(kind: ErrorKind) -> None:
    result, fault = ask(Scripted(adapter=EngineError(kind, "because")), [sample()])
    assert result == ProbeResult()
    assert fault
    assert not fault.permanent
    assert fault.message == "because"


def test_an_error_matters_only_where_a_check_is_required() -> None:
    warn = Verify(effect=Check.WARN, samples=Check.WARN)
    assert ask(Scripted(adapter=EngineError(ErrorKind.BUSY, "x")), [sample()], warn) == (ProbeResult(), None)


@pytest.mark.parametrize(
    ("said", "agrees"),
    [
        (ADAPTER, True),
        ({"1": -3.1, "2": -2.1, "4": -1.1, "3": -4.0}, True),
        (BASE, False),
        ({token: value / 2 for token, value in ADAPTER.items()}, False),
        # What the engine does not list is less likely than all that it lists, as it was recorded.
        ({"4": -1.0, "2": -2.0}, True),
    ],
)
def test_agreement_of_one_sample(said: dict[str, float], agrees: bool) -> None:
    compared = compare([sample()], [said])
    assert compared
    assert compared.agreed == int(agrees), compared


def test_half_of_the_samples_is_enough() -> None:
    for agreed, reason in ((2, None), (1, Reason.SAMPLES_DIFFER)):
        fault = verdict(1.0, SampleResult(compared=4, agreed=agreed, distance=0.7), Verify())
        assert (fault and fault.reason) == reason
    assert fault
    assert "1 of 4 recorded samples, mean distance 0.70" in fault.message


def test_a_small_effect_is_not_mistaken_for_a_difference() -> None:
    """An adapter that hardly changes anything may be off by the noise of 16 bits."""
    nearly = {token: value - 0.05 for token, value in BASE.items()}
    compared = compare([sample(adapter=nearly)], [BASE])
    assert compared
    assert compared.agreed == 1


def recorded(path: Path) -> list[GoldenSample]:
    """What a trainer would record of an adapter of the fakes."""
    adapter = read_adapter(str(path), 64)

    def chosen(prompt: list[int]) -> GoldenSample:
        base, own = next_tokens(prompt, None), next_tokens(prompt, adapter)
        tokens = likeliest(base, 8) | likeliest(own, 8)
        return GoldenSample(
            prompt_tokens=prompt,
            base={str(each): base[each] for each in tokens},
            adapter={str(each): own[each] for each in tokens},
        )

    return [chosen(each) for each in PROMPTS]


def asked_of(
    kind: str, server: Running[Vllm] | Running[Sglang] | Running[Lorax], path: Path, folder: Path
) -> Reason | None:
    async def load_and_probe(driver: Driver) -> Fault | None:
        await driver.load("a", path, None)
        result, fault = await probe(driver, "a", path, recorded(path), Verify())
        assert result.effect is not None
        return fault

    fault = drive(kind, server.url, load_and_probe, folder=folder)
    return fault.reason if fault else None


@pytest.mark.parametrize(("kind", "engine"), [("vllm", Vllm), ("sglang", Sglang), ("lorax", Lorax)])
@pytest.mark.parametrize(
    ("adapter", "reasons"),
    [
        ({"lora_alpha": 32}, {}),
        ({"zero": True}, dict.fromkeys(("vllm", "sglang", "lorax"), Reason.NO_EFFECT)),
        # SGLang scales as if the option were not there, here by a third of what is right.
        ({"lora_alpha": 32, "use_rslora": True}, {"sglang": Reason.SAMPLES_DIFFER}),
    ],
)
def test_against_engines(
    tmp_path: Path, kind: str, engine: type, adapter: dict[str, int], reasons: dict[str, Reason]
) -> None:
    path = write_adapter(tmp_path / ".store" / "sha256-1", **adapter)  # type: ignore[arg-type]
    with running(engine()) as server:
        assert asked_of(kind, server, path, tmp_path) == reasons.get(kind)


def test_an_engine_that_never_applies_adapters(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / ".store" / "sha256-1")
    with running(Vllm(inert=True)) as server:
        assert asked_of("vllm", server, path, tmp_path) is Reason.NO_EFFECT
