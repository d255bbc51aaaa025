"""Does a loaded version do anything, and does it say what its trainer recorded? Asked of the engine itself.

Engines accept adapters that change nothing, or that they scale wrongly, with a friendly 200; the log-probabilities of
the first next token tell. An engine that cannot say them leaves both questions open, which is no fault. What a distance
means is decided in pure functions; nothing here loads or unloads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Final

from lora_agent.drivers.base import Driver, EngineError, ProbeUnsupportedError, Prompt, fault_of
from lora_agent.faults import Fault
from lora_api.artifacts import GoldenSample
from lora_api.delivery import ProbeResult, SampleResult
from lora_api.loraadapter import Check, Verify
from lora_api.reasons import Reason

NEUTRAL_TEXTS: Final = (
    "The weather today is",
    "Please write a short answer to this question:",
    "Once there was a small house, and in it lived",
)
"""Asked where the trainer recorded nothing: sentences of ours, without any user's data."""
TOP_TOKENS: Final = 20
"""Likeliest tokens that are asked for: as many as vLLM gives unless it is told otherwise."""
SAME: Final = 1e-6
"""Mean difference of log-probabilities up to which two answers are the same computation."""
TOLERANCE: Final = 0.15
"""Distance that an engine may have from the trainer anyway: other kernels, and arithmetic in 16 bits."""
TOLERATED_SHARE: Final = 0.3
"""Part of the adapter's own effect by which an engine may differ. An adapter that is not applied differs by all of it;
with the scale of alpha / rank instead of alpha / sqrt(rank), at rank 8, it differs by 0.4 and more.
"""

LogProbabilities = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the engine said after each prompt, in the prompts' order."""

    base: list[dict[str, float]]
    """Empty if it was not asked."""
    adapter: list[dict[str, float]]
    recorded: bool
    """Whether the prompts were those of the samples."""


async def probe(
    driver: Driver, name: str, path: Path, samples: Sequence[GoldenSample], verify: Verify
) -> tuple[ProbeResult, Fault | None]:
    """Ask the engine, and return what was found, with a fault if a required check failed.

    An error of the engine is a fault that is tried again, and no verdict on the version.
    """
    effect_wanted, samples_wanted = verify.effect is not Check.OFF, verify.samples is not Check.OFF and bool(samples)
    if not (effect_wanted or samples_wanted):
        return ProbeResult(), None
    try:
        answers = await _ask(driver, name, path, samples, with_base=effect_wanted)
    except ProbeUnsupportedError:
        return ProbeResult(), None
    except EngineError as error:
        required = Check.REQUIRED in (verify.effect, verify.samples)
        return ProbeResult(), replace(fault_of(error), permanent=False) if required else None
    effect = effect_of(answers.base, answers.adapter) if effect_wanted else None
    compared = compare(samples, answers.adapter) if samples_wanted and answers.recorded else None
    return ProbeResult(effect=effect, samples=compared), verdict(effect, compared, verify)


async def _ask(driver: Driver, name: str, path: Path, samples: Sequence[GoldenSample], *, with_base: bool) -> _Answers:
    if samples:
        try:
            prompts: list[Prompt] = [each.prompt_tokens for each in samples]
            return await _say(driver, name, path, prompts, with_base=with_base, recorded=True)
        except ProbeUnsupportedError:  # an engine that takes texts only can still be asked for the effect
            if not with_base:
                raise
    return await _say(driver, name, path, list(NEUTRAL_TEXTS), with_base=with_base, recorded=False)


async def _say(
    driver: Driver, name: str, path: Path, prompts: list[Prompt], *, with_base: bool, recorded: bool
) -> _Answers:
    # One after the other: prompts that share a batch may differ in the last bits.
    base = [await driver.next_tokens(None, None, each, TOP_TOKENS) for each in prompts] if with_base else []
    adapter = [await driver.next_tokens(name, path, each, TOP_TOKENS) for each in prompts]
    return _Answers(base, adapter, recorded)


def effect_of(base: Sequence[LogProbabilities], adapter: Sequence[LogProbabilities]) -> float:
    """Return the mean difference between both, over the prompts. A token that one side does not list counts as its
    lowest there.
    """
    return fmean(_difference(*each) for each in zip(base, adapter, strict=True))


def _difference(one: LogProbabilities, other: LogProbabilities) -> float:
    lowest, other_lowest = min(one.values()), min(other.values())
    return fmean(abs(one.get(each, lowest) - other.get(each, other_lowest)) for each in one.keys() | other.keys())


def compare(samples: Sequence[GoldenSample], said: Sequence[LogProbabilities]) -> SampleResult | None:
    """Return how many samples the engine confirms; None if it knows no token ids, so that nothing can be compared."""
    if not all(any(token.isdecimal() for token in each) for each in said):
        return None
    distances = [_distances(*each) for each in zip(samples, said, strict=True)]
    agreed = [distance <= max(TOLERANCE, TOLERATED_SHARE * own) for distance, own in distances]
    return SampleResult(compared=len(agreed), agreed=sum(agreed), distance=fmean(each for each, _ in distances))


def _distances(sample: GoldenSample, said: LogProbabilities) -> tuple[float, float]:
    """Return the distance of the engine from the recorded adapter, and that of the recorded base from it.

    The engine lists its likeliest tokens only, and all others are at most as likely as the last of these. So all that
    is below it counts as equal to it, on every side; tokens below it both there and in the record tell nothing.
    Likewise a token that was not recorded is at most as likely as the last that was.
    """
    floor = min(said.values())
    last = min(sample.adapter.values(), default=floor)
    last_of_base = min(sample.base.values(), default=floor)
    rows = []
    for token in sample.base.keys() | sample.adapter.keys():
        engine = said.get(token, floor)
        adapter = sample.adapter.get(token, min(last, engine))
        rows.append((engine, max(adapter, floor), max(sample.base.get(token, last_of_base), floor)))
    telling = [row for row in rows if max(row[0], row[1]) > floor]
    if not telling:
        return 0.0, 0.0
    return fmean(abs(engine - own) for engine, own, _ in telling), fmean(abs(base - own) for _, own, base in telling)


def verdict(effect: float | None, compared: SampleResult | None, verify: Verify) -> Fault | None:
    """Return the fault of the first required check that failed."""
    if verify.effect is Check.REQUIRED and effect is not None and effect <= SAME:
        message = (
            "the engine answers exactly as without the adapter: its tensors match no module of this model, "
            "or they are zero; check target modules and base model, or set verify.effect: Warn"
        )
        return Fault(Reason.NO_EFFECT, message, permanent=True)
    if verify.samples is Check.REQUIRED and compared is not None and 2 * compared.agreed < compared.compared:
        message = (
            f"the engine confirms {compared.agreed} of {compared.compared} recorded samples, "
            f"mean distance {compared.distance:.2f}: check base model, its revision, and options that this engine "
            "ignores (rsLoRA, patterns), or set verify.samples: Warn"
        )
        return Fault(Reason.SAMPLES_DIFFER, message, permanent=True)
    return None
