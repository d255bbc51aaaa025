"""The validation split: seeded, blind to order, and never with the same row on both sides."""

import hashlib

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer.data.split import split_by_fraction, without
from lora_trainer.errors import TrainerError


def digests_of(*names):
    return [hashlib.sha256(str(name).encode()).digest() for name in names]


def chosen_of(digests, seed=1, fraction=0.1):
    return {digests[index] for index in split_by_fraction(digests, fraction, seed).validation}


def test_the_share_is_taken_and_nothing_is_lost():
    split = split_by_fraction(digests_of(*range(200)), 0.05, seed=1)
    assert len(split.validation) == 10
    assert sorted([*split.train, *split.validation]) == list(range(200))


def test_at_least_one_row_is_validated():
    assert len(split_by_fraction(digests_of("a", "b", "c"), 0.01, seed=1).validation) == 1


@pytest.mark.parametrize("seed", range(20))
def test_equal_rows_stay_on_one_side(seed):
    digests = digests_of(*[index % 7 for index in range(50)])
    split = split_by_fraction(digests, 0.3, seed)
    assert not {digests[index] for index in split.train} & {digests[index] for index in split.validation}
    assert len(split.train)


def test_the_same_seed_chooses_the_same_and_another_seed_others():
    digests = digests_of(*range(100))
    assert chosen_of(digests) == chosen_of(digests) != chosen_of(digests, seed=2)


def test_the_order_of_the_rows_does_not_matter():
    digests = digests_of(*range(100))
    assert chosen_of(digests) == chosen_of(digests[::-1])


def test_rows_of_one_content_cannot_be_split():
    with pytest.raises(TrainerError, match="3 rows, 1 of them distinct, cannot be split") as caught:
        split_by_fraction(digests_of("a", "a", "a"), 0.5, seed=1)
    assert caught.value.exit_code == ExitCode.BAD_DATA


def test_rows_of_the_validation_set_are_not_trained_on():
    assert without(digests_of("a", "b", "a", "c"), digests_of("a")).tolist() == [1, 3]
