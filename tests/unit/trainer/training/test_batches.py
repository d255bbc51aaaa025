"""Which rows a step learns from, and how they are divided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_trainer.training.batches import RowOrder, micro_batches, micro_batches_of_ranks, shares

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(lambda found: np.asarray(found, np.int64))


def test_an_epoch_has_each_row_once_and_the_next_one_another_order():
    order = RowOrder(rows=10, effective_batch=4, seed=1)
    epochs = [np.concatenate([order.of_step(epoch * 3 + step) for step in range(3)]) for epoch in range(2)]
    assert [sorted(each) for each in epochs] == [list(range(10))] * 2
    assert list(epochs[0]) != list(epochs[1])


def test_a_step_depends_on_seed_and_number_alone():
    wanted = [list(RowOrder(10, 4, 1).of_step(step)) for step in range(9)]
    backwards = RowOrder(10, 4, 1)
    assert [list(backwards.of_step(step)) for step in reversed(range(9))] == wanted[::-1]
    assert [list(RowOrder(10, 4, 2).of_step(step)) for step in range(9)] != wanted


@pytest.mark.parametrize(("steps", "epochs"), [(0, 0), (1, 0.4), (2, 0.8), (3, 1), (4, 1.4), (6, 2)])
def test_epochs_count_rows(steps, epochs):
    assert RowOrder(10, 4, 1).epochs_after(steps) == pytest.approx(epochs)


@given(LENGTHS, st.integers(1, 100), st.booleans())
def test_micro_batches_hold_every_row_once_within_the_budget(lengths, budget, packed):
    rows = np.arange(len(lengths))
    batches = micro_batches(rows, lengths, budget, packed=packed)
    assert sorted(np.concatenate(batches)) == list(rows)
    for each in batches:
        cost = lengths[each].sum() if packed else lengths[each].max() * len(each)
        assert cost <= budget or len(each) == 1


@given(LENGTHS, st.integers(1, 100), st.integers(1, 5), st.booleans())
def test_ranks_share_the_rows_and_have_equally_many_micro_batches(lengths, budget, world, packed):
    rows = np.arange(len(lengths))
    divided = micro_batches_of_ranks(rows, lengths, budget, world, packed=packed)
    assert len({len(each) for each in divided}) == 1
    assert sorted(np.concatenate([batch for each in divided for batch in each])) == list(rows)


def test_ranks_get_about_the_same_tokens():
    lengths = np.asarray([100, 90, 10, 8, 6, 5, 4, 3], np.int64)
    sums = [int(lengths[each].sum()) for each in shares(np.arange(8), lengths, 2)]
    assert max(sums) - min(sums) <= 10


def test_rows_of_similar_length_are_padded_together():
    lengths = np.asarray([50, 5, 49, 6, 48, 7], np.int64)
    batches = micro_batches(np.arange(6), lengths, 150, packed=False)
    assert [sorted(each.tolist()) for each in batches] == [[0, 2, 4], [1, 3, 5]]


def test_packing_needs_fewer_micro_batches_than_padding():
    lengths = np.asarray([100, 10, 10, 10, 60, 40], np.int64)
    assert len(micro_batches(np.arange(6), lengths, 120, packed=True)) == 2
    assert len(micro_batches(np.arange(6), lengths, 120, packed=False)) == 3
