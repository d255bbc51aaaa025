"""The same on a GPU: `python -m bench.trainer.gpu`, a Llama of 8 billion parameters with random weights.

Tokens a second, the share of the device's peak that they are, and the peak memory against the estimate that a job is
planned by. Needs neither network nor a real model; TRL takes part where it is installed.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.trainer import report
from bench.trainer.contenders import OURS, TRAINER, TRL_PACKED, TRL_PADDED
from bench.trainer.conversations import chat_lengths, counting_rows
from bench.trainer.isolation import run_alone
from bench.trainer.report import Section, Verdict, best_and_median, ratio, say
from bench.trainer.settings import Settings, take_turns
from bench.trainer.shapes import SHAPES, Shape, flops_a_token
from bench.trainer.workload import Contender, Rows, Trace, Workload, save_rows
from lora_api.messages import MemoryEstimate
from lora_trainer.model.estimate import estimate_memory, peak_rate
from lora_trainer.training.plan import GPU_TOKEN_BUDGET

_GIB = 1 << 30
_RANK = 16
_WORDS = 100
"""So many different tokens there are in the rows: random weights learn at once which they are."""
_CHAT_MEDIAN = 300
_ESTIMATE_ERROR = 0.10
_TINY = {"shape": "tiny", "length": 64, "warm_up": 1, "steps": 7, "repeats": 1}


def main(arguments: Sequence[str]) -> int:
    """Run the contenders; return the exit code: 1 where there is no GPU, or a contender fails."""
    options = _parse(arguments)
    if not options.tiny and not torch.cuda.is_available():
        sys.stderr.write(
            "bench: no CUDA device is visible; run this where a GPU is, or with --tiny to see that it works\n"
        )
        return 1
    started = datetime.now(UTC)
    command = " ".join(["python -m bench.trainer.gpu", *arguments])
    device = "CPU" if options.tiny else torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as scratch:
        settings = Settings(options.tiny, report.usable_threads(), options.repeats, Path(scratch))
        try:
            section = measure(settings, options, device)
        except (RuntimeError, AssertionError) as error:
            say(str(error))
            return 1
    text = report.heading(f"on one {device}", command, started.date(), settings.threads, quick=options.tiny)
    text += "\n" + section.markdown()
    sys.stdout.write(text)
    if options.record:
        report.record(text)
    return 0


def measure(settings: Settings, options: argparse.Namespace, device: str) -> Section:
    """Return the table of one model and one law of lengths."""
    model, kind = settings.scratch / "model", "cpu" if options.tiny else "cuda"
    dtype = "float32" if options.tiny else "bfloat16"
    say(f"making {options.shape}")
    order = {"shape": options.shape, "folder": str(model), "device": kind, "dtype": dtype}
    run_alone("make-model", json.dumps(order), threads=settings.threads)
    steps = options.warm_up + options.steps
    rows = counting_rows(_lengths(options, steps), _WORDS, seed=1)
    file = save_rows(settings.scratch / "rows.json", rows)

    def workload(contender: Contender) -> Workload:
        return Workload(
            contender,
            model=str(model),
            rows=file,
            steps=steps,
            rows_per_step=options.rows_per_step,
            rows_at_once=rows_at_once(options.rows_per_step, options.length),
            max_length=options.length,
            warm_up=options.warm_up,
            dtype=dtype,
            device=kind,
            rank=_RANK,
            learning_rate=5e-3 if options.tiny else 1e-3,
        )

    found = [replace(each, recompute=options.recompute) for each in contenders(options.law)]
    traces = take_turns(settings, options.shape, found, workload)
    return _section(options, workload(OURS), rows, traces, device)


def contenders(law: str) -> list[Contender]:
    """Return who takes part. Rows of one length need no packing."""
    trl = importlib.util.find_spec("trl") is not None
    packed = trl and law == "chat"
    return [OURS, TRAINER, *([TRL_PADDED] if trl else []), *([TRL_PACKED] if packed else [])]


def rows_at_once(rows_per_step: int, length: int) -> int:
    """Return the rows of a micro-batch: as many tokens as the project's plan gives a GPU."""
    wanted = max(1, min(rows_per_step, GPU_TOKEN_BUDGET // length))
    return next(size for size in range(wanted, 0, -1) if rows_per_step % size == 0)


def estimate(shape: Shape, workload: Workload, *, recompute: bool) -> MemoryEstimate:
    """Return what the project expects of its own run."""
    from bench.trainer.ours import plan_of, spec_of

    plan = plan_of(workload, spec_of(workload))
    plan = plan.model_copy(update={"activation_checkpointing": recompute})
    size = getattr(torch, workload.dtype).itemsize
    return estimate_memory(shape.config, shape.parameters, shape.adapter(workload.rank), plan, size)


def _lengths(options: argparse.Namespace, steps: int) -> list[int]:
    count = steps * options.rows_per_step
    if options.law == "fixed":
        return [options.length] * count
    return chat_lengths(count, seed=1, max_length=options.length, median=min(_CHAT_MEDIAN, options.length // 2))


def _section(
    options: argparse.Namespace, workload: Workload, rows: Rows, traces: Mapping[str, Sequence[Trace]], device: str
) -> Section:
    shape = SHAPES[options.shape]
    lengths = [len(row["input_ids"]) for row in rows]
    # Long rows have more tokens, and each of these sees more: the mean length over tokens, not over rows.
    flops = flops_a_token(shape, sum(each**2 for each in lengths) / sum(lengths), _RANK)
    rate = options.peak_tflops * 1e12 if options.peak_tflops else peak_rate(device)
    expected = estimate(shape, workload, recompute=options.recompute).total / _GIB
    speeds = {name: [each.tokens_per_second(options.warm_up) for each in runs] for name, runs in traces.items()}
    peaks = {name: max(each.peak_device_memory for each in runs) / _GIB for name, runs in traces.items()}
    ours = max(speeds[OURS.name])
    return Section(
        f"{options.shape}, {len(rows)} rows of {min(lengths):,} to {max(lengths):,} tokens, LoRA of rank {_RANK}, "
        f"{workload.dtype}, activations {'recomputed' if options.recompute else 'kept'}",
        ("", "tokens/s without padding", "ours is faster by", "share of the peak rate", "peak GPU memory, GiB"),
        [
            (
                name,
                best_and_median(each, most=True),
                ratio(ours, max(each)),
                _share(max(each), flops, rate),
                f"{peaks[name]:.2f}",
            )
            for name, each in speeds.items()
        ],
        _verdicts(peaks[OURS.name], expected) if peaks[OURS.name] else (),
        [
            f"{flops / 1e9:.1f} GFLOP a token: 4 for each weight of the base, attention, 6 for each of the adapter."
            + (f" Peak rate {rate / 1e12:,.0f} TFLOP/s." if rate else ""),
            f"The estimate before the run: {expected:.2f} GiB.",
        ],
    )


def _verdicts(peak: float, expected: float) -> list[Verdict]:
    error = expected / peak - 1
    found = f"{expected:.2f} against {peak:.2f} GiB, {error:+.0%}"
    return [
        Verdict(f"estimate within {_ESTIMATE_ERROR:.0%} of the measured peak", found, abs(error) <= _ESTIMATE_ERROR)
    ]


def _share(speed: float, flops: float, rate: float | None) -> str:
    return f"{speed * flops / rate:.1%}" if rate else "unknown"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.trainer.gpu", description="Measure the trainer on one GPU.")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama-8b")
    parser.add_argument("--length", type=_positive, default=4096, help="tokens of the longest row")
    parser.add_argument("--law", choices=("fixed", "chat"), default="fixed", help="all rows of that length, or mixed")
    parser.add_argument("--rows-per-step", type=_positive, default=4)
    parser.add_argument("--warm-up", type=_positive, default=5, help="steps that are not timed")
    parser.add_argument("--steps", type=_positive, default=20, help="steps that are")
    parser.add_argument("--repeats", type=_positive, default=2, help="runs of each contender")
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing for all contenders")
    parser.add_argument("--peak-tflops", type=float, help="peak rate of a device that is not known here")
    parser.add_argument("--scratch", type=Path, help="folder with room for the model; default: the temporary one")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU, to see that it works")
    parser.add_argument("--record", action="store_true", help=f"append the table to {report.RESULTS.name}")
    options = parser.parse_args(arguments)
    if options.tiny:
        vars(options).update(_TINY)
    return options


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
