"""What the report says about the data, and what the user is warned of. Numbers and names only, never a row."""

from lora_trainer.data.assembly import Data, ReadSet
from lora_trainer.data.labels import count_labels
from lora_trainer.data.lengths import histogram, percentile
from lora_trainer.report import DataReport, LabelCount, LengthBin, SetReport

_MAX_FILES, _MAX_LABELS = 20, 50
_MANY_DUPLICATES = 0.01


def summarize(data: Data) -> DataReport:
    """Return the part of the report that is about the data."""
    first = data.train_sets[0].prepared.facts
    sets = [*data.train_sets, *data.other_sets]
    rows = sum(len(each.prepared.examples) for each in data.train_sets)
    truncated = data.train.truncated + data.validation.truncated
    return DataReport(
        sets=[_of_set(each) for each in sets],
        format=first.format,
        detected_by=first.detected_by,
        lengths=[LengthBin(up_to=bound, rows=count) for bound, count in histogram(data.lengths).items()],
        median_length=percentile(data.lengths, 0.5),
        length_of_90_percent=percentile(data.lengths, 0.9),
        length_of_99_percent=percentile(data.lengths, 0.99),
        longest_row=int(data.lengths.max()),
        learned_tokens=int(data.epoch.learned.sum()),
        truncated_rows=truncated,
        truncated_fraction=round(truncated / len(data.lengths), 6),
        dropped_rows=data.train.dropped + data.validation.dropped,
        duplicate_rows=data.duplicates,
        duplicate_fraction=round(data.duplicates / rows, 6),
        overlapping_rows=data.overlapping,
        equal_pairs=sum(each.prepared.facts.equal_pairs for each in sets),
        rows_without_end_token=sum(each.prepared.facts.rows_without_end for each in sets),
        labels=_labels(data),
        label_count=len(data.labels),
    )


def warnings_of(data: Data, report: DataReport) -> list[str]:
    """Return what the user should know, the most important first."""
    found = [
        (
            report.rows_without_end_token,
            "in {} rows no token ends the answer: the chat template writes none, and the model may not learn to stop",
        ),
        (_classes_without_rows(data), "classes that no training row has, so that they will never be recognized: {}"),
        (
            report.truncated_rows,
            f"{{}} rows are cut to {data.max_length} tokens, {report.dropped_rows} of them to none",
        ),
        (report.overlapping_rows, "{} training rows are left out, as they are validation rows too"),
        (report.equal_pairs, "{} preference pairs are left out, as both sides are the same"),
        (
            report.duplicate_rows if report.duplicate_fraction > _MANY_DUPLICATES else 0,
            "{} rows have the same content as an earlier one",
        ),
    ]
    return [words.format(count) for count, words in found if count]


def _of_set(read: ReadSet) -> SetReport:
    facts = read.prepared.facts
    return SetReport(
        uri=str(read.source.location).partition(": ")[2],  # without what may be a secret in a web address
        digest=f"sha256:{read.digest}",
        format=facts.format,
        detected_by=facts.detected_by,
        weight=read.source.weight,
        rows=len(read.prepared.examples),
        files=facts.files[:_MAX_FILES],
        file_count=len(facts.files),
    )


def _labels(data: Data) -> list[LabelCount]:
    counts = count_labels(data.train.examples, data.labels)
    ordered = sorted(counts.items(), key=lambda each: -each[1])[:_MAX_LABELS]
    return [LabelCount(name=name, count=count) for name, count in ordered]


def _classes_without_rows(data: Data) -> int:
    return sum(count == 0 for count in count_labels(data.train.examples, data.labels).values())
