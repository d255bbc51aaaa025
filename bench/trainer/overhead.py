"""What a trainer adds to a step: the time of a step so small that little else is in it."""

from dataclasses import replace
from statistics import median

from bench.trainer.contenders import BY_HAND, OURS, OURS_PADDED, TRAINER, TRL_PADDED
from bench.trainer.conversations import counting_rows
from bench.trainer.models import TOY_VOCABULARY, small_model
from bench.trainer.report import Section, Verdict, best_and_median, ratio
from bench.trainer.settings import Settings, take_turns
from bench.trainer.workload import Contender, Workload, save_rows

TITLE = "Step overhead: a toy of 2 layers, width 64; 8 rows of 32 tokens; 1 thread"
_ROWS, _LENGTH = 8, 32
_SELDOM = replace(TRAINER, name="Trainer + PEFT, its default of a log every 500 steps", logging_steps=500)
_CONTENDERS = (BY_HAND, OURS, OURS_PADDED, TRAINER, _SELDOM, TRL_PADDED)


def measure(settings: Settings) -> list[Section]:
    """Return the milliseconds of a step."""
    model = small_model(settings.scratch / "toy", layers=2, hidden=64, vocabulary=TOY_VOCABULARY)
    rows = save_rows(settings.scratch / "toy.json", counting_rows([_LENGTH] * 8 * _ROWS, TOY_VOCABULARY, seed=1))
    warm_up, timed = settings.pick(20, 2), settings.pick(150, 8)

    def workload(contender: Contender) -> Workload:
        return Workload(
            contender,
            model=str(model),
            rows=rows,
            steps=warm_up + timed,
            rows_per_step=_ROWS,
            rows_at_once=_ROWS,
            max_length=_LENGTH,
            warm_up=warm_up,
            learning_rate=5e-3,
        )

    traces = take_turns(settings, "step overhead", _CONTENDERS, workload, threads=1)
    times = {name: [1e3 * median(each.step_seconds(warm_up)) for each in runs] for name, runs in traces.items()}
    ours, theirs = min(times[OURS.name]), min(times[TRAINER.name])
    return [
        Section(
            TITLE,
            ("", "ms a step (median of the run)", "times the loop by hand"),
            [
                (name, best_and_median(each, 2), ratio(min(each), min(times[BY_HAND.name])))
                for name, each in times.items()
            ],
            [Verdict("at most plain Trainer's", f"{ours:.2f} ms against {theirs:.2f} ms", ours <= theirs)],
            ["Loss, gradient norm and learning rate of each step go to the log of each, but for the one named."],
        )
    ]
