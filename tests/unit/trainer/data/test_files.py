"""Names of data files: which a pattern means."""

import pytest

from lora_api.sources import Storage as StorageSpec
from lora_trainer.data.files import files_of_split, find_files, pattern_of
from lora_trainer.errors import TrainerError
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import Location

TRAIN, VALIDATION = "spec.dataset.train.uri", "spec.dataset.validation.uri"
HUB = ["data/train-00000.parquet", "data/train-00001.parquet", "data/validation-00000.parquet", "data/test.parquet"]


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("*.jsonl", ["a.jsonl", ".jsonl"], ["a/b.jsonl", "a.jsonl.gz", "ajsonl"]),
        ("**/*.jsonl", ["a.jsonl", "a/b.jsonl", "a/b/c.jsonl"], ["a.json"]),
        ("**", ["a", "a/b"], []),
        ("part-?.csv", ["part-1.csv"], ["part-12.csv", "part-/.csv"]),
        ("part-[0-3].csv", ["part-1.csv"], ["part-4.csv"]),
        ("part-[!0-3].csv", ["part-4.csv"], ["part-1.csv"]),
        ("2025-*/a+b.csv", ["2025-01/a+b.csv"], ["2025-01/aab.csv", "2025-01/x/a+b.csv"]),
    ],
)
def test_a_star_stays_in_its_folder_and_two_cross_folders(glob, matching, others):
    pattern = pattern_of(glob)
    assert all(pattern.fullmatch(name) for name in matching)
    assert not any(pattern.fullmatch(name) for name in others)


@pytest.mark.parametrize(
    ("field", "names", "expected"),
    [
        (TRAIN, HUB, HUB[:2]),
        (VALIDATION, HUB, HUB[2:3]),
        (VALIDATION, [*HUB[:2], HUB[3]], HUB[3:]),
        ("spec.dataset.mixture[0].uri", HUB, HUB[:2]),
        (TRAIN, ["a.jsonl", "retrained.jsonl"], ["a.jsonl", "retrained.jsonl"]),
    ],
)
def test_of_a_hub_data_set_the_files_of_one_split_are_read(field, names, expected):
    assert files_of_split(Location("hf://owner/name", field), names) == expected


def test_a_hub_data_set_without_the_split_that_is_meant_is_refused():
    with pytest.raises(TrainerError, match="no file is named after the split train"):
        files_of_split(Location("hf://owner/name", TRAIN), ["test.jsonl"])


def test_a_web_address_is_one_file_whatever_its_query_says():
    source = Location("https://host/a/rows.jsonl.gz?token=*", TRAIN)
    assert find_files(Storage(StorageSpec()), source) == [("rows.jsonl.gz", source)]


def test_a_web_address_that_is_no_data_file_is_refused_without_its_query():
    with pytest.raises(TrainerError, match="there is no data file of a kind that is read") as caught:
        find_files(Storage(StorageSpec()), Location("https://host/page?token=secret", TRAIN))
    assert "secret" not in str(caught.value)
