"""What `watch` shows of a run: a screen for a terminal, and a line for everything else."""

import textwrap
from dataclasses import dataclass
from datetime import datetime

from lora_api.conditions import find_condition
from lora_api.lorajob_status import LoRAJobStatus, Phase
from lora_api.messages import Activity, Progress
from lora_api.reasons import ConditionType
from lora_cli.render.curve import draw
from lora_cli.render.log_line import printable
from lora_cli.render.units import duration, number

_CURVE_HEIGHT = 8
_SMALLEST_CURVE = 2
_NARROWEST_CURVE, _AXIS_WIDTH = 20, 12
_SMALLEST_BAR = 5
_LARGEST_WIDTH = 100
_NOTE_LINES = 3
_BOLD, _DIM, _RED, _GREEN, _CYAN, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"
_BEFORE_TRAINING = {
    Activity.STARTING: "the pod starts",
    Activity.LOADING_DATA: "the pod reads the data",
    Activity.LOADING_MODEL: "the pod loads the base model",
    Activity.EVALUATING: "the pod evaluates the model",
    Activity.TRAINING: "the pod computes it",
}
"""What a pod does before the first step of its attempt."""
_COLOURS = {Phase.FAILED: _RED, Phase.STALLED: _RED, Phase.SUCCEEDED: _GREEN, Phase.RUNNING: _CYAN}


@dataclass(frozen=True)
class Terminal:
    """What the terminal can show."""

    width: int = 80
    colour: bool = False
    unicode: bool = True


def screen(name: str, status: LoRAJobStatus, now: datetime, terminal: Terminal) -> list[str]:
    """Return the lines of the screen: how far, how good, how fast, until when, and the losses as a picture."""
    lines = [_head(name, status, terminal)]
    progress = status.progress
    if progress and progress.percent is not None:
        lines.append(_bar(progress.percent, progress.step, total_steps(status), terminal))
    elif status.phase == Phase.RUNNING:
        lines += _before_first_step(status, now, terminal)
    if numbers := _numbers(status, now):
        lines.append(_cut("  ".join(numbers), terminal))
    lines += _curve(status, terminal)
    for note in _notes(status):
        lines += [_painted(each, _DIM, terminal) for each in _wrapped(printable(note), terminal)]
    return lines


def line(name: str, status: LoRAJobStatus, now: datetime) -> str:
    """Return the same in one line, for a log."""
    progress = status.progress
    parts = [name, _stage(status)]
    if progress and (total := total_steps(status)):
        parts.append(f"step {progress.step}/{total}")
    return "  ".join([*parts, *_numbers(status, now)])


def total_steps(status: LoRAJobStatus) -> int | None:
    """Return the steps of the whole run: as the training says, else as the preflight planned."""
    if status.progress and status.progress.total_steps:
        return status.progress.total_steps
    return status.resolved.plan.total_steps if status.resolved else None


def _cut(text: str, terminal: Terminal) -> str:
    """Return what fits: a line that the terminal wraps would break a screen that is drawn over itself."""
    return text if len(text) <= terminal.width else text[: terminal.width - 1] + _more(terminal)


def _more(terminal: Terminal) -> str:
    return "…" if terminal.unicode else "~"


def _wrapped(note: str, terminal: Terminal) -> list[str]:
    """Return a note on as many lines as it takes, up to three."""
    return textwrap.wrap(note, terminal.width, max_lines=_NOTE_LINES, placeholder=f" {_more(terminal)}")


def _head(name: str, status: LoRAJobStatus, terminal: Terminal) -> str:
    colour = _COLOURS.get(status.phase) if status.phase else None
    stage = _painted(_stage(status), colour or "", terminal) if colour else _stage(status)
    run = f"  run {status.run}" if status.run else ""
    if len(f"{name}  {_stage(status)}{run}") > terminal.width:
        return _cut(f"{name}  {_stage(status)}{run}", terminal)
    return f"{_painted(name, _BOLD, terminal)}  {stage}{run}"


def _stage(status: LoRAJobStatus) -> str:
    phase = status.phase.value if status.phase else "Pending"
    activity = status.progress.activity.value if status.progress else ""
    if status.phase == Phase.RUNNING and activity and activity != "Training":
        return f"{phase} ({activity})"
    shown = status.reason and status.phase not in (Phase.RUNNING, Phase.SUCCEEDED, Phase.PREFLIGHT, Phase.PENDING)
    return f"{phase} ({status.reason})" if shown else phase


def _before_first_step(status: LoRAJobStatus, now: datetime, terminal: Terminal) -> list[str]:
    """Return where a pod will begin that has not trained yet, what it does, and for how long, which moves at least."""
    done, total = status.checkpoint.step if status.checkpoint else 0, total_steps(status)
    bar = _bar(100.0 * done / total if total else 0.0, done, total, terminal)
    does = _BEFORE_TRAINING.get((status.progress or Progress()).activity)
    running = find_condition(status.conditions, ConditionType.RUNNING)
    since = f", for {duration(max(0.0, (now - running.last_transition_time).total_seconds()))}" if running else ""
    return [bar, _cut(f"before step {done + 1}: {does}{since}", terminal)] if does else [bar]


def _bar(percent: float, step: int, total: int | None, terminal: Terminal) -> str:
    tail = f" {percent:5.1f}%  step {step}/{total or '?'}"
    width = min(terminal.width, _LARGEST_WIDTH) - len(tail) - 2
    if width < _SMALLEST_BAR:
        return _cut(tail.strip(), terminal)
    full, empty = ("█", "░") if terminal.unicode else ("#", "-")
    done = round(width * min(100.0, max(0.0, percent)) / 100)
    return f"[{full * done}{empty * (width - done)}]{tail}"


def _numbers(status: LoRAJobStatus, now: datetime) -> list[str]:
    progress = status.progress
    if progress is None:
        return []
    values = [
        f"loss {progress.loss:.4f}" if progress.loss is not None else "",
        f"eval loss {progress.eval_loss:.4f}" if progress.eval_loss is not None else "",
        f"epoch {progress.epoch:.2f}" if progress.epoch is not None else "",
    ]
    if status.phase == Phase.RUNNING:
        speed, end = progress.tokens_per_second, progress.eta_time
        values.append(f"{number(speed)} tokens/s" if speed is not None else "")
        values.append(f"ETA {duration(max(0.0, (end - now).total_seconds()))}" if end else "")
    return [each for each in values if each]


def _curve(status: LoRAJobStatus, terminal: Terminal) -> list[str]:
    losses = [(float(each.step), each.loss) for each in status.loss_curve if each.loss is not None]
    evaluations = [(float(each.step), each.eval_loss) for each in status.loss_curve if each.eval_loss is not None]
    width = min(terminal.width, _LARGEST_WIDTH) - _AXIS_WIDTH
    if len(losses) < _SMALLEST_CURVE or width < _NARROWEST_CURVE:
        return []
    picture = draw(losses, evaluations, width, _CURVE_HEIGHT, unicode=terminal.unicode)
    mark = "◆" if terminal.unicode else "x"
    legend = _cut(f"loss over steps, {mark} on validation rows" if evaluations else "loss over steps", terminal)
    return ["", *(_painted(each, _CYAN, terminal) for each in picture), _painted(legend, _DIM, terminal)]


def waits_for(status: LoRAJobStatus) -> list[str]:
    """Return what holds a run up that has not ended, and what to do."""
    failure = status.failure
    if failure is None or status.phase in (Phase.FAILED, Phase.SUCCEEDED):
        return []
    return [f"{failure.reason}: {failure.message}", *([f"What to do: {failure.hint}"] if failure.hint else [])]


def _notes(status: LoRAJobStatus) -> list[str]:
    attempts, notes = status.attempts, waits_for(status)
    if status.checkpoint and status.phase != Phase.SUCCEEDED:  # another attempt would go on from it
        notes.append(f"checkpoint of step {status.checkpoint.step}")
    if attempts and (attempts.failures or attempts.disruptions):
        notes.append(f"{attempts.failures} failures, {attempts.disruptions} disruptions")
    if status.progress and status.progress.overfitting:
        notes.append(f"overfitting: {status.progress.overfitting}")
    return notes


def _painted(text: str, colour: str, terminal: Terminal) -> str:
    return f"{colour}{text}{_RESET}" if terminal.colour and colour else text
