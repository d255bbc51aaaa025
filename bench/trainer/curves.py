"""Whether all learn the same: losses of ours, Trainer and TRL, step by step, on the same rows in the same order."""

from collections.abc import Mapping, Sequence

from bench.trainer.contenders import OURS, OURS_PADDED, TRAINER, TRL_PADDED
from bench.trainer.conversations import chat_rows
from bench.trainer.models import small_model, smollm2, tokenizer_of
from bench.trainer.report import Section, Verdict
from bench.trainer.settings import Settings, take_turns
from bench.trainer.workload import Contender, Trace, Workload, save_rows

_LARGEST = 1e-2
_ROWS_PER_STEP, _MAX_LENGTH = 8, 256
_CONTENDERS = (OURS, OURS_PADDED, TRAINER, TRL_PADDED)


def measure(settings: Settings) -> list[Section]:
    """Return the losses at a few steps and the largest difference between any two at the same step."""
    steps = settings.pick(20, 6)
    model = small_model(settings.scratch / "learner", layers=4, hidden=settings.pick(128, 64))
    rows = chat_rows(tokenizer_of(smollm2()), steps * _ROWS_PER_STEP, seed=3, max_length=_MAX_LENGTH, median=40)
    file = save_rows(settings.scratch / "curve.json", rows)

    def workload(contender: Contender) -> Workload:
        return Workload(
            contender,
            model=str(model),
            rows=file,
            steps=steps,
            rows_per_step=_ROWS_PER_STEP,
            rows_at_once=_ROWS_PER_STEP // 2,
            max_length=_MAX_LENGTH,
            learning_rate=5e-3,
        )

    return [_section(take_turns(settings, "loss curves", _CONTENDERS, workload, repeats=1))]


def _section(traces: Mapping[str, Sequence[Trace]]) -> Section:
    losses = {name: runs[0].losses for name, runs in traces.items()}
    ours = losses[OURS.name]
    shown = sorted({1, *range(5, len(ours) + 1, 5), len(ours)})
    gaps = {name: max(abs(a - b) for a, b in zip(ours, each, strict=True)) for name, each in losses.items()}
    largest = max(gaps.values())
    return Section(
        f"Loss curves: {len(ours)} steps of {_ROWS_PER_STEP} chat rows, a random Llama of 4 layers, float32",
        ("", *(f"step {step}" for step in shown), "largest difference to ours"),
        [(name, *(f"{each[step - 1]:.5f}" for step in shown), f"{gaps[name]:.1e}") for name, each in losses.items()],
        [Verdict(f"the same to {_LARGEST}", f"largest difference {largest:.1e}", largest <= _LARGEST)],
    )
