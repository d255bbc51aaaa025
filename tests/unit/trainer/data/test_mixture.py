"""Mixtures and classes: sets joined, passed by their weight, and one numbering of classes for all of them."""

import numpy as np
import pytest

from lora_trainer.data.examples import IGNORED, examples_of
from lora_trainer.data.labels import LabelBook, count_labels, ordered_names, renumbered
from lora_trainer.data.mixture import by_weight, joined

OWNERS = np.repeat([0, 1], [4, 10])


def taken(weights, seed=1):
    passes = np.bincount(by_weight(OWNERS, weights, seed), minlength=14).tolist()
    return [passes[:4], passes[4:]]


def test_a_weight_is_how_often_the_rows_of_a_set_are_passed():
    assert taken([1, 1]) == [[1] * 4, [1] * 10]
    assert taken([2, 1]) == [[2] * 4, [1] * 10]


def test_a_part_of_a_set_is_chosen_by_the_seed():
    _, half = taken([1, 0.5])
    assert sorted(half) == [0] * 5 + [1] * 5
    assert half == taken([1, 0.5])[1] != taken([1, 0.5], seed=2)[1]
    assert sorted(taken([1, 1.5])[1]) == [1] * 5 + [2] * 5


def test_a_set_gives_at_least_one_row():
    assert sum(taken([1, 0.01])[1]) == 1


def test_sets_are_joined_in_order():
    first, second = examples_of([{"input_ids": [1, 2]}]), examples_of([{"input_ids": [3]}, {"input_ids": []}])
    whole = joined([first, second])
    assert [whole[index]["input_ids"].tolist() for index in range(3)] == [[1, 2], [3], []]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["spam", "ham", "spam"], ["ham", "spam"]),
        (["10", "9", "1"], ["1", "9", "10"]),
        (["0", "3"], ["0", "1", "2", "3"]),  # a class that no row has keeps its place
        (["-1", "1"], ["-1", "1"]),
        (["0", "5000"], ["0", "5000"]),
        (["1", "one"], ["1", "one"]),
        (["01", "0"], ["0", "01"]),
        ([], []),
    ],
)
def test_classes_are_ordered_by_value_or_by_name(names, expected):
    assert ordered_names(names) == expected


def test_sets_agree_on_the_numbers_of_the_classes():
    book = LabelBook()
    rows = [{"labels": [book.number("spam"), IGNORED, book.number("ham")]}]
    examples = renumbered(examples_of(rows), book.names, ["eggs", "ham", "spam"])
    assert examples[0]["labels"].tolist() == [2, IGNORED, 1]
    assert count_labels(examples, ["eggs", "ham", "spam"]) == {"eggs": 0, "ham": 1, "spam": 1}
