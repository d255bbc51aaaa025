"""What a local run shows: a progress bar and short lines on stderr, the result on stdout."""

import json
import sys
from typing import Any

from lora_api.messages import Activity, Progress, TerminationMessage
from lora_cli.render.log_line import printable

_WORDS = {
    Activity.STARTING: "starting",
    Activity.LOADING_DATA: "reading data",
    Activity.LOADING_MODEL: "loading model",
    Activity.TRAINING: "training",
    Activity.EVALUATING: "evaluating",
    Activity.PUBLISHING: "publishing",
    Activity.FINISHED: "finished",
}


class Display:
    """How far one command is: a line for each thing that it begins to do, and a bar while it counts steps."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None
        self._activity: Activity | None = None

    def show(self, progress: Progress) -> None:
        """Show how far the trainer is."""
        if progress.total_steps is not None and sys.stderr.isatty():
            self._show_bar(progress)
        elif progress.activity is not self._activity:
            say(f"{self._name}: {_WORDS[progress.activity]}")
        self._activity = progress.activity

    def _show_bar(self, progress: Progress) -> None:
        if self._bar is None:
            from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - the operator's image has none

            # What an earlier attempt did is no part of the speed of this one.
            self._bar = tqdm(total=progress.total_steps, initial=progress.step, unit="step", dynamic_ncols=True)
        self._bar.set_description(f"{self._name}: {_WORDS[progress.activity]}", refresh=False)
        self._bar.n = progress.step
        losses = {"loss": progress.loss, "eval": progress.eval_loss}
        self._bar.set_postfix({key: f"{value:.4f}" for key, value in losses.items() if value is not None})

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()


def say(line: str) -> None:
    """Print one line for people."""
    print(printable(line), file=sys.stderr, flush=True)


def preflight_lines(message: TerminationMessage) -> list[str]:
    """Return what the preflight found, and what the user should know."""
    warnings = message.preflight.warnings if message.preflight else []
    return [f"preflight: {message.message}", *(f"warning: {each}" for each in warnings)]


def result_lines(message: TerminationMessage) -> list[str]:
    """Return the adapter: URI, digest and metrics."""
    adapter = message.adapter
    if adapter is None:
        return []
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in sorted(adapter.metrics.items()))
    lines = [f"adapter  {adapter.uri}", f"digest   {adapter.digest}"]
    return lines + ([f"metrics  {metrics}"] if metrics else [])


def result_json(code: int, messages: dict[str, TerminationMessage]) -> str:
    """Return the end of a run as one JSON object: exit code, and the last words of each command."""
    said = {
        command: message.model_dump(mode="json", by_alias=True, exclude_none=True)
        for command, message in messages.items()
    }
    return json.dumps({"exitCode": code, **said}, indent=2)
