"""What the run measured: one JSON line a step and an evaluation, the newest values as progress, the final metrics.

Knows nothing of torch; the trainer hands it plain numbers.
"""

import json
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_trainer.logs import log
from lora_trainer.progress import ProgressState

_SPEED_STEPS = 20
_LOG_SECONDS = 10


class Recorder:
    """Collects the measurements of one run."""

    def __init__(self, path: Path, progress: ProgressState, total_steps: int) -> None:
        self._path = path
        self._progress = progress
        self._total_steps = total_steps
        self._recent: deque[tuple[float, int]] = deque(maxlen=_SPEED_STEPS)
        self._losses: list[float] = []
        self._evaluations: list[tuple[int, float]] = []
        self._logged_time = 0.0
        path.unlink(missing_ok=True)

    def step(self, step: int, epoch: float, seconds: float, tokens: int, values: dict[str, float]) -> None:
        """Record a finished step: its time, its tokens without padding, and `loss`, `gradNorm`, `learningRate`."""
        self._recent.append((seconds, tokens))
        self._losses.append(values["loss"])
        spent = sum(each for each, _ in self._recent)
        speed = round(sum(each for _, each in self._recent) / max(spent, 1e-9), 1)
        self._progress.step(step, self._total_steps, spent / len(self._recent))
        self._progress.update(epoch=round(epoch, 4), loss=_shown(values["loss"]), tokens_per_second=speed)
        line = {"step": step, "epoch": round(epoch, 4), **values, "tokens": tokens, "tokensPerSecond": speed}
        self._write(line)
        if step == self._total_steps or time.monotonic() - self._logged_time > _LOG_SECONDS:
            self._logged_time = time.monotonic()
            log("step", totalSteps=self._total_steps, **line)

    def evaluation(self, step: int, loss: float, tokens: int) -> None:
        """Record an evaluation: its loss, mean over `tokens` supervised tokens."""
        self._evaluations.append((step, loss))
        self._progress.update(eval_loss=_shown(loss))
        self._write({"step": step, "evalLoss": loss, "evalTokens": tokens})
        log("evaluation", step=step, evalLoss=loss)

    def evaluated_at(self, step: int) -> bool:
        """Whether the model of a step was evaluated."""
        return bool(self._evaluations) and self._evaluations[-1][0] == step

    def final_metrics(self) -> dict[str, float]:
        """Return trainLoss (mean of the last tenth of the steps), and evalLoss and baseEvalLoss if there are any."""
        last = self._losses[-max(1, len(self._losses) // 10) :]
        metrics = {"trainLoss": sum(last) / len(last)} if last else {}
        if self._evaluations:
            metrics |= {"evalLoss": self._evaluations[-1][1], "baseEvalLoss": self._evaluations[0][1]}
        return {name: round(value, 6) for name, value in metrics.items()}

    def _write(self, line: dict[str, Any]) -> None:
        line |= {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _shown(loss: float) -> float:
    """Return a loss as people read it; the exact one is in metrics.jsonl."""
    return round(loss, 4)
