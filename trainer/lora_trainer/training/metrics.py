"""From sums to the numbers that people read. Pure."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lora_api.training import Metric

FALLING = frozenset({Metric.EVAL_LOSS, Metric.PERPLEXITY})
"""Metrics that are better when lower."""
_LARGEST_EXPONENT = 700.0  # of the float64 that a perplexity is


def metrics_of(loss: float, count: int, sums: Mapping[str, Any], wanted: tuple[Metric, ...]) -> dict[str, float]:
    """Return the wanted metrics of an evaluation: `loss` and `sums` over `count` tokens, rows or pairs."""
    mean = loss / count
    makers = {
        Metric.EVAL_LOSS: lambda: mean,
        Metric.PERPLEXITY: lambda: math.exp(min(mean, _LARGEST_EXPONENT)),
        Metric.TOKEN_ACCURACY: lambda: float(sums["hits"]) / count,
        Metric.EXACT_MATCH: lambda: float(sums["exact"]) / float(sums["rows"]),
        Metric.ACCURACY: lambda: float(np.trace(sums["confusion"])) / count,
        Metric.MACRO_F1: lambda: macro_f1(np.asarray(sums["confusion"])),
        Metric.ENTITY_F1: lambda: _f1(float(sums["entityHits"]), float(sums["entities"]), float(sums["entitiesFound"])),
        Metric.REWARD_ACCURACY: lambda: float(sums["won"]) / float(sums["pairs"]),
        Metric.REWARD_MARGIN: lambda: float(sums["margin"]) / float(sums["pairs"]),
    }
    return {metric.value: makers[metric]() for metric in wanted}


def macro_f1(confusion: np.ndarray[Any, Any]) -> float:
    """Return the mean F1 over the classes that occur or were predicted; rows are classes, columns predictions."""
    hits, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    scores = [_f1(float(h), float(t), float(f)) for h, t, f in zip(hits, true, found, strict=True) if t + f > 0]
    return sum(scores) / len(scores)


def gain(metric: Metric, before: float, after: float) -> float:
    """Return by how much a metric became better; negative when it became worse."""
    return before - after if metric in FALLING else after - before


def _f1(hits: float, true: float, found: float) -> float:
    return 2 * hits / (true + found) if true + found else 1.0
