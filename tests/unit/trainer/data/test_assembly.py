"""The rows of a training: divided, cut and mixed, with every number that the report tells."""

import hashlib

import numpy as np
import pytest

from lora_api.exit_codes import ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat
from lora_trainer.data.assembly import ReadSet, assemble
from lora_trainer.data.examples import IGNORED, examples_of
from lora_trainer.data.prepare import FileRows, Prepared, SetFacts
from lora_trainer.data.source import Source
from lora_trainer.data.summary import summarize, warnings_of
from lora_trainer.errors import TrainerError
from lora_trainer.storage.location import Location
from support.specs import SMALLEST, with_field


def language(number, length=8):
    ids = [number] * length
    return {"input_ids": ids, "labels": [IGNORED, *ids[1:]]}


def read_set(rows, *, field="spec.dataset.train", weight=1.0, labels=(), **facts):
    """Return a set in which equal rows have equal digests."""
    known = {"rows_without_end": 0, "equal_pairs": 0, "tail": 0} | facts
    files = [FileRows(name="a.jsonl", rows=len(rows))]
    digests = b"".join(hashlib.sha256(str(row).encode()).digest() for row in rows)
    prepared = Prepared(
        examples_of(rows),
        np.frombuffer(digests, np.uint8).reshape(-1, 32),
        SetFacts(format=DataFormat.TEXT, detected_by="text", files=files, labels=list(labels), **known),
    )
    source = Source(field, Location("s3://data/a.jsonl", f"{field}.uri"), DataFormat.AUTO, {}, weight)
    return ReadSet(source, prepared, hashlib.sha256(digests).hexdigest())


def spec(**fields):
    made = SMALLEST
    for path, value in fields.items():
        made = with_field(path.replace("__", "."), value, made)
    return LoRAJobSpec.model_validate(made)


def numbers(examples):
    return [int(examples[index]["input_ids"][0]) for index in range(len(examples))]


def report_of(data):
    report = summarize(data)
    return report, warnings_of(data, report)


def test_without_a_validation_all_rows_are_trained_on():
    data = assemble(spec(), 512, [read_set([language(1), language(2)])])
    assert numbers(data.epoch) == [1, 2]
    assert len(data.validation.examples) == 0
    assert data.max_length == 128


def test_a_fraction_is_held_out_before_rows_are_repeated():
    rows = [language(number) for number in range(10)]
    more = read_set([language(number) for number in range(100, 110)], field="spec.dataset.mixture[0]", weight=3)
    data = assemble(spec(dataset__validation={"fraction": 0.2}), 512, [read_set(rows), more])
    assert len(data.validation.examples) == 4
    assert not set(numbers(data.epoch)) & set(numbers(data.validation.examples))
    counts = {number: numbers(data.epoch).count(number) for number in numbers(data.epoch)}
    assert set(counts.values()) == {1, 3}
    assert len(data.epoch) == sum(3 if number >= 100 else 1 for number in counts)


def test_training_rows_that_are_validation_rows_too_are_left_out_and_counted():
    held = read_set([language(1)], field="spec.dataset.validation")
    data = assemble(spec(), 512, [read_set([language(1), language(2), language(1)])], validation=held)
    assert (numbers(data.epoch), numbers(data.validation.examples), data.overlapping) == ([2], [1], 2)
    report, warnings = report_of(data)
    assert (report.overlapping_rows, report.duplicate_rows) == (2, 1)
    assert "2 training rows are left out, as they are validation rows too" in warnings


def test_a_validation_set_with_every_training_row_is_refused():
    held = read_set([language(1)], field="spec.dataset.validation")
    with pytest.raises(TrainerError, match="every training row is in it") as caught:
        assemble(spec(), 512, [read_set([language(1)])], validation=held)
    assert caught.value.exit_code == ExitCode.BAD_DATA


def test_rows_that_are_cut_are_counted_on_both_sides_and_more_than_allowed_are_refused():
    rows = [language(number, 8 if number else 40) for number in range(20)]
    held = read_set([language(99, 40)], field="spec.dataset.validation")
    asked = spec(training__maxLength=16, preflight__maximumTruncatedFraction=0.1)
    data = assemble(asked, 512, [read_set(rows)], validation=held)
    report, warnings = report_of(data)
    assert (report.truncated_rows, report.dropped_rows, report.longest_row) == (2, 0, 40)
    assert "2 rows are cut to 16 tokens, 0 of them to none" in warnings
    with pytest.raises(TrainerError, match=r"2 of 21 rows are longer than 16 tokens \(the longest has 40\)"):
        assemble(spec(training__maxLength=16), 512, [read_set(rows)], validation=held)


def test_a_length_beyond_the_model_is_refused():
    with pytest.raises(TrainerError, match="1024 is more than the base model can place") as caught:
        assemble(spec(training__maxLength=1024), 512, [read_set([language(1)])])
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST


def test_rows_of_which_a_cut_leaves_nothing_are_no_training():
    row = {"input_ids": list(range(1, 21)), "labels": [IGNORED] * 19 + [20]}
    asked = spec(training__maxLength=16, preflight__maximumTruncatedFraction=1)
    with pytest.raises(TrainerError, match="at 16 tokens no row has anything left to learn"):
        assemble(asked, 512, [read_set([row])])


def test_validation_rows_of_which_a_cut_leaves_nothing_are_no_validation():
    late = {"input_ids": list(range(1, 21)), "labels": [IGNORED] * 19 + [20]}
    asked = spec(
        training__maxLength=16,
        preflight__maximumTruncatedFraction=1,
        dataset__validation={"uri": "s3://data/b.jsonl"},
    )
    held = read_set([late], field="spec.dataset.validation")
    with pytest.raises(TrainerError, match="at 16 tokens no validation row has anything left to learn"):
        assemble(asked, 512, [read_set([language(1)])], validation=held)


def test_sets_share_the_numbers_of_their_classes():
    first = read_set([{"input_ids": [1], "labels": [0]}], labels=["spam"])
    second = read_set([{"input_ids": [2], "labels": [0]}], field="spec.dataset.mixture[0]", labels=["ham"])
    held = read_set([{"input_ids": [3], "labels": [0]}], field="spec.dataset.validation", labels=["eggs"])
    data = assemble(spec(task="SequenceClassification"), 512, [first, second], validation=held)
    assert data.labels == ["eggs", "ham", "spam"]
    assert [data.epoch[index]["labels"].tolist() for index in (0, 1)] == [[2], [1]]
    report, warnings = report_of(data)
    assert [(each.name, each.count) for each in report.labels] == [("ham", 1), ("spam", 1), ("eggs", 0)]
    assert warnings == ["classes that no training row has, so that they will never be recognized: 1"]


def test_one_class_is_no_classification():
    only = read_set([{"input_ids": [1], "labels": [0]}], labels=["spam"])
    with pytest.raises(TrainerError, match="the classes of the rows are 1"):
        assemble(spec(task="SequenceClassification"), 512, [only])


def test_the_digest_names_what_is_trained_and_validated_on():
    one, other = read_set([language(1)]), read_set([language(2)], field="spec.dataset.mixture[0]")
    general = read_set([language(3)], field="spec.evaluation.retention")
    assert assemble(spec(), 512, [one]).digest == f"sha256:{one.digest}"
    assert assemble(spec(), 512, [one], retention=general).digest == f"sha256:{one.digest}"
    assert assemble(spec(), 512, [one, other]).digest not in (f"sha256:{one.digest}", f"sha256:{other.digest}")


def test_the_report_tells_lengths_and_what_is_learned():
    rows = [language(number, length) for number, length in enumerate([10] * 90 + [20] * 9 + [40])]
    data = assemble(spec(), 512, [read_set(rows, rows_without_end=3)])
    report, warnings = report_of(data)
    assert (report.median_length, report.length_of_90_percent, report.length_of_99_percent) == (10, 10, 20)
    assert [(each.up_to, each.rows) for each in report.lengths] == [(16, 90), (32, 9), (64, 1)]
    assert report.learned_tokens == 90 * 9 + 9 * 19 + 39
    assert (report.sets[0].uri, report.sets[0].rows, report.sets[0].file_count) == ("s3://data/a.jsonl", 100, 1)
    assert warnings[0].startswith("in 3 rows no token ends the answer")
