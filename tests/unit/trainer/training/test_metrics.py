"""From sums to metrics."""

import math

import numpy as np
import pytest

from lora_api.training import Metric
from lora_trainer.training.losses import entities_of
from lora_trainer.training.metrics import gain, macro_f1, metrics_of

CONFUSION = np.asarray([[3, 1, 0], [0, 4, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric.EVAL_LOSS, 0.5),
        (Metric.PERPLEXITY, math.exp(0.5)),
        (Metric.TOKEN_ACCURACY, 0.75),
        (Metric.EXACT_MATCH, 0.25),
        (Metric.ACCURACY, 7 / 8),
        (Metric.ENTITY_F1, 2 * 3 / (4 + 5)),
        (Metric.REWARD_ACCURACY, 0.6),
        (Metric.REWARD_MARGIN, 0.2),
    ],
)
def test_each_metric(metric, expected):
    sums = {"hits": 6, "exact": 1, "rows": 4, "confusion": CONFUSION, "won": 3, "margin": 1.0, "pairs": 5}
    sums |= {"entityHits": 3, "entities": 4, "entitiesFound": 5}
    assert metrics_of(4.0, 8, sums, (metric,)) == {metric.value: pytest.approx(expected)}


def test_macro_f1_is_the_mean_over_the_classes_that_occur():
    assert macro_f1(CONFUSION) == pytest.approx((6 / 7 + 8 / 9) / 2)


def test_an_absurd_loss_has_a_perplexity_and_no_overflow():
    assert math.isfinite(metrics_of(1e6, 1, {}, (Metric.PERPLEXITY,))["perplexity"])


@pytest.mark.parametrize(
    ("metric", "before", "after", "better"),
    [(Metric.EVAL_LOSS, 2.0, 1.5, 0.5), (Metric.ACCURACY, 0.5, 0.75, 0.25), (Metric.ACCURACY, 0.75, 0.5, -0.25)],
)
def test_a_gain_is_positive_when_the_metric_became_better(metric, before, after, better):
    assert gain(metric, before, after) == better


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        (["O", "B-PER", "I-PER", "O", "B-LOC"], {(1, 3, "PER"), (4, 5, "LOC")}),
        (["B-PER", "B-PER"], {(0, 1, "PER"), (1, 2, "PER")}),
        (["I-PER", "I-LOC"], {(0, 1, "PER"), (1, 2, "LOC")}),
        (["NOUN", "NOUN"], {(0, 1, "NOUN"), (1, 2, "NOUN")}),
        (["O", "O"], set()),
    ],
    ids=["usual", "two in a row", "without a beginning", "plain tags", "none"],
)
def test_entities_of_tags(tags, entities):
    assert entities_of(tags) == entities
