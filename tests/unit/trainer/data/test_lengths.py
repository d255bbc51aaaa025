"""Lengths: the default, the histogram, the cut, and that every cut row is counted."""

import numpy as np
import pytest

from lora_trainer.data.examples import IGNORED, examples_of
from lora_trainer.data.lengths import default_max_length, fit_to_length, histogram, percentile, row_lengths


def language(prompt, answer):
    ids = list(range(1, prompt + answer + 1))
    return {"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]}


@pytest.mark.parametrize(
    ("lengths", "limit", "expected"),
    [
        ([10], 8192, 128),
        ([128], 8192, 128),
        ([129], 8192, 256),
        ([100] * 99 + [9000], 8192, 128),  # one outlier in a hundred is cut
        ([100] * 98 + [9000] * 2, 8192, 4096),
        ([9000] * 10, 2048, 2048),
        ([100], 64, 64),
    ],
)
def test_the_default_length_is_the_99th_percentile_rounded_up(lengths, limit, expected):
    assert default_max_length(np.asarray(lengths), limit) == expected


def test_percentiles_are_lengths_that_rows_have():
    lengths = np.arange(1, 101)[::-1]
    assert [percentile(lengths, share) for share in (0.5, 0.9, 0.99, 1)] == [50, 90, 99, 100]
    assert percentile(np.zeros(0, np.int64), 0.5) == 0


def test_the_bins_of_the_histogram_are_powers_of_two_and_hold_every_row():
    assert histogram(np.asarray([1, 16, 17, 32, 33, 200])) == {16: 2, 32: 2, 64: 1, 128: 0, 256: 1}
    assert histogram(np.zeros(0, np.int64)) == {}


def test_what_is_cut_and_what_is_dropped_is_counted():
    fitted = fit_to_length(examples_of([language(4, 4), language(4, 40), language(40, 4)]), 16, 0)
    assert row_lengths(fitted.examples).tolist() == [8, 16]
    assert (fitted.truncated, fitted.dropped, fitted.kept.tolist()) == (2, 1, [0, 1])
    assert fitted.examples[1]["labels"].tolist() == [IGNORED] * 4 + list(range(5, 17))


def test_nothing_changes_when_all_rows_fit():
    examples = examples_of([language(1, 3)])
    assert fit_to_length(examples, 4, 1).examples is examples


def test_of_a_preference_pair_each_side_is_cut_and_a_pair_with_an_empty_answer_is_dropped():
    sides = [(language(2, 8), language(2, 2)), (language(6, 4), language(2, 2))]
    rows = [
        {f"chosen_{name}": values for name, values in chosen.items()}
        | {f"rejected_{name}": values for name, values in rejected.items()}
        for chosen, rejected in sides
    ]
    fitted = fit_to_length(examples_of(rows), 6, 0)
    assert (fitted.truncated, fitted.dropped) == (2, 1)
    assert fitted.examples[0]["chosen_input_ids"].tolist() == [1, 2, 3, 4, 5, 6]
    assert fitted.examples[0]["rejected_input_ids"].tolist() == [1, 2, 3, 4]


def test_a_source_keeps_its_end_and_a_cut_target_gets_none():
    rows = [{"input_ids": [5, 6, 7, 8, 1], "target_ids": [9, 9, 9, 9, 1]}]
    fitted = fit_to_length(examples_of(rows), 3, tail=1)
    assert fitted.examples[0]["input_ids"].tolist() == [5, 6, 1]
    assert fitted.examples[0]["target_ids"].tolist() == [9, 9, 9]
    assert (fitted.truncated, fitted.dropped) == (1, 0)


def test_a_text_keeps_its_last_special_token_and_its_class():
    rows = [{"input_ids": [101, 5, 6, 7, 102], "labels": [2]}, {"input_ids": [101, 5, 102], "labels": [0]}]
    fitted = fit_to_length(examples_of(rows), 4, tail=1)
    assert [fitted.examples[index]["input_ids"].tolist() for index in (0, 1)] == [[101, 5, 6, 102], [101, 5, 102]]
    assert [fitted.examples[index]["labels"].tolist() for index in (0, 1)] == [[2], [0]]


def test_the_tags_of_cut_words_go_with_them():
    tags = [IGNORED, 1, 2, 3, IGNORED]
    fitted = fit_to_length(examples_of([{"input_ids": [101, 5, 6, 7, 102], "labels": tags}]), 3, tail=1)
    assert fitted.examples[0]["labels"].tolist() == [IGNORED, 1, IGNORED]
