"""The losses of a run as a picture: loss and evaluation loss over the steps, and the learning rate below."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import failed
from lora_cli.render.curve import Point


@dataclass(frozen=True)
class Measured:
    """What is drawn."""

    loss: Sequence[Point]
    eval_loss: Sequence[Point]
    learning_rate: Sequence[Point] = ()
    """Empty where it is not known."""


def write_figure(measured: Measured, title: str, target: Path) -> None:
    """Write the picture, in the format of the file's name. Raises `CliError`."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - a second that the other commands need not wait
    except ImportError:
        raise failed(
            "plot needs the package matplotlib", "pip install matplotlib, or see `kubectl lora watch`"
        ) from None
    rows = 2 if measured.learning_rate else 1
    figure = Figure(figsize=(8, 3 + 2 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    axes[0].plot(*_columns(measured.loss), label="loss", linewidth=1, alpha=0.8)
    if measured.eval_loss:
        axes[0].plot(*_columns(measured.eval_loss), "o-", label="evaluation loss", markersize=4)
    axes[0].set_ylabel("loss")
    axes[0].set_title(title)
    axes[0].legend()
    if measured.learning_rate:
        axes[1].plot(*_columns(measured.learning_rate), linewidth=1, color="tab:green")
        axes[1].set_ylabel("learning rate")
    axes[-1].set_xlabel("step")
    for each in axes:
        each.grid(alpha=0.3)
    try:
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as error:
        raise failed(f"{target} cannot be written: {error}", "name a .png, .svg or .pdf in a folder of yours") from None


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [each[0] for each in points], [each[1] for each in points]
