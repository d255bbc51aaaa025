"""What the run measured: one JSON line a step and an evaluation, the newest values as progress, the final metrics.

The whole history is kept, so that a checkpoint can carry it: a training that goes on from one continues the file
without a gap or a line too many. Knows nothing of torch; the trainer hands it plain numbers.
"""

import json
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_trainer.logs import log
from lora_trainer.progress import ProgressState
from lora_trainer.training.stopping import Evaluation, best_of, overfitting

_SPEED_STEPS = 20
_LOG_SECONDS = 10
Line = dict[str, Any]


class Recorder:
    """Collects the measurements of one run."""

    def __init__(self, path: Path, progress: ProgressState, total_steps: int) -> None:
        self._path, self._progress, self._total_steps = path, progress, total_steps
        self._recent: deque[tuple[float, int]] = deque(maxlen=_SPEED_STEPS)
        self._logged_time = 0.0
        self.history: list[Line] = []
        """Every line so far."""
        self.evaluations: list[Evaluation] = []
        """The evaluations so far, each with the mean training loss since the one before."""
        self._since: list[float] = []
        self.restore([])

    def restore(self, history: list[Line]) -> None:
        """Go on from the history of a checkpoint; the file begins with it."""
        self.history, self.evaluations, self._since = [], [], []
        for line in history:
            self._keep(line)
        if self.evaluations:
            last = self.evaluations[-1].loss
            self._progress.update(eval_loss=_shown(last), overfitting=overfitting(self.evaluations))
        self._path.write_text("".join(json.dumps(line) + "\n" for line in self.history), encoding="utf-8")

    def step(self, step: int, epoch: float, seconds: float, tokens: int, values: dict[str, float]) -> None:
        """Record a finished step: its time, its tokens without padding, and `loss`, `gradNorm`, `learningRate`."""
        self._recent.append((seconds, tokens))
        spent = sum(each for each, _ in self._recent)
        speed = round(sum(each for _, each in self._recent) / max(spent, 1e-9), 1)
        self._progress.step(step, self._total_steps, spent / len(self._recent))
        self._progress.update(epoch=round(epoch, 4), loss=_shown(values["loss"]), tokens_per_second=speed)
        line = {"step": step, "epoch": round(epoch, 4), **values, "tokens": tokens, "tokensPerSecond": speed}
        self._write(line)
        if step == self._total_steps or time.monotonic() - self._logged_time > _LOG_SECONDS:
            self._logged_time = time.monotonic()
            log("step", totalSteps=self._total_steps, **line)

    def evaluation(self, step: int, metrics: dict[str, float], count: int) -> None:
        """Record an evaluation: its metrics, of which `evalLoss` is a mean over `count` tokens, rows or pairs."""
        self._write({"step": step, **metrics, "evalCount": count})
        alarm = overfitting(self.evaluations)
        self._progress.update(eval_loss=_shown(metrics["evalLoss"]), overfitting=alarm)
        log("evaluation", step=step, **metrics)
        if alarm:
            log("the run looks overfitted", reason=alarm)

    def retention(self, step: int, loss: float, count: int) -> None:
        """Record the loss on the general set that shows what the model forgot."""
        self._write({"step": step, "retentionLoss": loss, "retentionCount": count})
        log("retention", step=step, retentionLoss=loss)

    def evaluated_at(self, step: int) -> bool:
        """Whether the model of a step was evaluated."""
        return any(each.step == step for each in self.evaluations)

    def metrics_at(self, step: int) -> dict[str, float]:
        """Return the metrics of the evaluation after a step, or nothing."""
        lines = (line for line in self.history if "evalLoss" in line and line["step"] == step)
        return {name: value for line in lines for name, value in line.items() if name not in _ABOUT_THE_LINE}

    def final_metrics(self, step: int) -> dict[str, float]:
        """Return the metrics of the model of a step.

        trainLoss is the mean of the last tenth of the steps up to it; metrics of the base model have the prefix base.
        """
        losses = [line["loss"] for line in self.history if "loss" in line and line["step"] <= step]
        last = losses[-max(1, len(losses) // 10) :]
        metrics = {"trainLoss": sum(last) / len(last)} if last else {}
        metrics |= self.metrics_at(step)
        metrics |= {f"base{name[0].upper()}{name[1:]}": value for name, value in self.metrics_at(0).items()}
        retained = [line["retentionLoss"] for line in self.history if "retentionLoss" in line]
        if retained:
            metrics |= {"baseRetentionLoss": retained[0], "retentionLoss": retained[-1]}
        return {name: round(value, 6) for name, value in metrics.items()}

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation of a trained model."""
        best = best_of(self.evaluations)
        return best.step if best else None

    def _keep(self, line: Line) -> None:
        self.history.append(line)
        if "evalLoss" in line:
            self.evaluations.append(Evaluation(line["step"], line["evalLoss"], _mean(self._since)))
            self._since = []
        elif "loss" in line:
            self._since.append(line["loss"])

    def _write(self, line: Line) -> None:
        line |= {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        self._keep(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


_ABOUT_THE_LINE = ("step", "evalCount", "time")


def _mean(losses: list[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None


def _shown(loss: float) -> float:
    """Return a loss as people read it; the exact one is in metrics.jsonl."""
    return round(loss, 4)
