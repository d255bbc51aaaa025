"""What lies beside an adapter for people: a model card, and a plot of its losses.

Neither decides what the adapter does, so neither is in its digest: the card may say more tomorrow about the same
adapter. No row of data is in them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lora_api.artifacts import FileEntry, Manifest
from lora_trainer.publish.card import card
from lora_trainer.publish.publication import entry
from lora_trainer.publish.size import Sizes

CARD = "README.md"
PLOT = "losses.png"
_FILE_MODE = 0o644
_INCHES = (8, 4.5)
_DOTS_PER_INCH = 100


def write_documents(
    folder: Path,
    manifest: Manifest,
    sizes: Sizes,
    history: Iterable[Mapping[str, Any]],
    *,
    task: str,
    labels: Iterable[str] = (),
) -> list[FileEntry]:
    """Write the documents of an adapter into its folder, and return their entries for `manifest.documents`.

    `history` are the lines of metrics.jsonl, `task` is that of the API, `labels` are the classes of a classification in
    the order of their ids.
    """
    (folder / CARD).write_text(card(manifest, sizes, task, list(labels)), encoding="utf-8")
    plot_losses(folder / PLOT, history)
    for name in (CARD, PLOT):
        (folder / name).chmod(_FILE_MODE)
    return [entry(folder, folder / name) for name in (CARD, PLOT)]


def plot_losses(file: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Write a PNG with the training loss of each step and the loss of each evaluation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot, which looks for a screen and keeps state

    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    trained, evaluated = losses(history)
    axes.plot(*trained, label="training", linewidth=1, alpha=0.7)
    if evaluated[0]:
        axes.plot(*evaluated, label="evaluation", marker="o", markersize=4)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(file, format="png", metadata={"Software": None})


def losses(history: Iterable[Mapping[str, Any]]) -> tuple[tuple[list[int], list[float]], tuple[list[int], list[float]]]:
    """Return steps and values of the training loss, and of the evaluation loss."""
    lines = list(history)
    trained = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    evaluated = [(line["step"], line["evalLoss"]) for line in lines if "evalLoss" in line]
    return _columns(trained), _columns(evaluated)


def _columns(pairs: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in pairs], [value for _, value in pairs]
