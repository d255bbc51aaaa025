"""Tokens a second that are no padding, and the memory that it takes: SmolLM2-135M on chat of mixed length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.trainer.contenders import OURS, TRAINER, TRL_PACKED, TRL_PADDED
from bench.trainer.conversations import chat_rows
from bench.trainer.models import small_model, smollm2, tokenizer_of
from bench.trainer.report import Section, Verdict, best_and_median, ratio
from bench.trainer.settings import Settings, take_turns
from bench.trainer.workload import Contender, Rows, Trace, Workload, save_rows

_SPEED_UP = 1.3
_GIB = 1 << 30

_RIVALS = (TRL_PADDED, TRL_PACKED)
_MAIN = (OURS, TRAINER, *_RIVALS)
_ONCE = (
    replace(TRL_PADDED, name="TRL, rows one by one", rows_at_once=1),
    replace(TRL_PACKED, name="TRL, packed, activations recomputed (its default)", recompute=True),
)
"""Shown for completeness: other settings that a user of TRL may have."""


@dataclass(frozen=True)
class Size:
    """How much of a run there is in one number format."""

    dtype: str
    rows_per_step: int
    rows_at_once: int
    warm_up: int
    timed: int
    repeats: int
    others: Sequence[Contender] = ()
    max_length: int = 1024
    median_words: int = 180


_FLOAT32 = Size("float32", rows_per_step=8, rows_at_once=4, warm_up=1, timed=2, repeats=2, others=_ONCE)
_BFLOAT16 = replace(_FLOAT32, dtype="bfloat16", others=())
# Without bfloat16 in hardware its products are 10 to 20 times slower, and as many rows would take an hour.
_SLOW_BFLOAT16 = Size("bfloat16", rows_per_step=3, rows_at_once=3, warm_up=0, timed=2, repeats=1)
_QUICK = Size(
    "float32", 4, rows_at_once=2, warm_up=1, timed=3, repeats=1, others=_ONCE, max_length=128, median_words=20
)


def measure_float32(settings: Settings) -> list[Section]:
    """Return tokens a second and peak memory in float32."""
    return [_measure(settings, _QUICK if settings.quick else _FLOAT32)]


def measure_bfloat16(settings: Settings) -> list[Section]:
    """Return the same in bfloat16, which takes a quarter of an hour on a CPU that has none in hardware."""
    from lora_trainer.model.arithmetic import cpu_has_bfloat16

    size = _BFLOAT16 if cpu_has_bfloat16() else _SLOW_BFLOAT16
    return [_measure(settings, replace(_QUICK, dtype="bfloat16", others=()) if settings.quick else size)]


def _measure(settings: Settings, size: Size) -> Section:
    model = smollm2()
    tokenizer = tokenizer_of(model)
    if settings.quick:
        model = small_model(settings.scratch / f"small-{size.dtype}", layers=2, hidden=64)
    steps = size.warm_up + size.timed
    count = size.rows_per_step * steps
    rows = chat_rows(tokenizer, count, seed=7, max_length=size.max_length, median=size.median_words)
    file = save_rows(settings.scratch / f"chat-{size.dtype}.json", rows)

    def workload(contender: Contender) -> Workload:
        return Workload(
            contender,
            model=str(model),
            rows=file,
            steps=steps,
            rows_per_step=size.rows_per_step,
            rows_at_once=size.rows_at_once,
            max_length=size.max_length,
            warm_up=size.warm_up,
            dtype=size.dtype,
            learning_rate=settings.pick(1, 5) * 1e-3,
        )

    title = f"throughput {size.dtype}"
    traces = take_turns(settings, title, _MAIN, workload, repeats=size.repeats)
    traces |= take_turns(settings, title, size.others, workload, repeats=1) if size.others else {}
    return _section(size, rows, traces)


def _section(size: Size, rows: Rows, traces: Mapping[str, Sequence[Trace]]) -> Section:
    speeds = {name: [each.tokens_per_second(size.warm_up) for each in runs] for name, runs in traces.items()}
    peaks = {name: max(each.peak_memory for each in runs) / _GIB for name, runs in traces.items()}
    ours = max(speeds[OURS.name])
    table = [
        (name, best_and_median(each, most=True), ratio(ours, max(each)), f"{peaks[name]:.2f}")
        for name, each in speeds.items()
    ]
    rival, least = (max(max(speeds[each.name]) for each in _RIVALS), min(peaks[each.name] for each in _RIVALS))
    lengths = [len(row["input_ids"]) for row in rows]
    return Section(
        f"Throughput and memory, {size.dtype}",
        ("", "tokens/s without padding", "ours is faster by", "peak memory, GiB"),
        table,
        [
            Verdict(
                f"at least {_SPEED_UP} times the better of TRL padded and packed",
                f"{ours:,.1f} against {rival:,.1f} tokens/s, {ratio(ours, rival)}",
                ours >= _SPEED_UP * rival,
            ),
            Verdict(
                "peak memory at most that of the leaner of both",
                f"{peaks[OURS.name]:.2f} against {least:.2f} GiB",
                peaks[OURS.name] <= least,
            ),
        ],
        [
            f"{len(rows)} rows of {min(lengths)} to {max(lengths)} tokens, {fmean(lengths):.0f} on average.",
            f"{size.rows_per_step} a step, padded ones {size.rows_at_once} at once; {size.timed} steps are timed.",
            "LoRA of rank 16 on all linear layers; activations are kept, but for the one named.",
            "Memory is the most that the whole process held, libraries included.",
        ],
    )
