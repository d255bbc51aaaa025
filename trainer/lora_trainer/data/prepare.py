"""One set of rows, from its files to examples: parsed, checked and tokenised in one pass, a batch of rows at a time.

All bad rows up to a bound are told at once. Nothing is dropped here without being counted.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lora_api.base import StatusModel
from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat
from lora_api.training import Objective, Task
from lora_trainer.data.encoders import Encoded, Encoder, encoder_of, tail_of
from lora_trainer.data.examples import Examples
from lora_trainer.data.files import DataFile
from lora_trainer.data.formats import ColumnNames, detect_format, telling_columns
from lora_trainer.data.labels import LabelBook
from lora_trainer.data.mixture import joined
from lora_trainer.data.readers import reader_of
from lora_trainer.data.records import Numbered, has_text_cells, read_records
from lora_trainer.data.rows import MAX_BAD_ROWS, FileError, Record, Row, RowError, digest_of_row
from lora_trainer.data.source import Source
from lora_trainer.data.tokens import ChatTokenizer
from lora_trainer.errors import TrainerError, bad_data
from lora_trainer.tasks import rules_of

_ROWS_A_CALL = 1000
_NAMED_ROWS = 3
Digests = NDArray[np.uint8]
"""[rows, 32]: SHA-256 of what each row teaches."""


class FileRows(StatusModel):
    """How many rows a file gave."""

    name: str
    rows: int


class SetFacts(StatusModel):
    """What is known of a set besides its examples."""

    format: DataFormat
    detected_by: str
    """What the detection of the format went by."""
    files: list[FileRows]
    labels: list[str]
    """Names of the classes, by the number that the examples have for them."""
    rows_without_end: int
    """Rows with an answer that no token ends."""
    equal_pairs: int
    """Preference pairs left out because both sides are the same."""
    tail: int
    """Tokens that the tokenizer puts after a text, and that stay when it is cut."""


@dataclass(frozen=True)
class Prepared:
    """One set of rows as examples, whole and in the order of files and rows."""

    examples: Examples
    digests: Digests
    facts: SetFacts


def prepare_set(
    source: Source,
    files: Sequence[DataFile],
    spec: LoRAJobSpec,
    tokenizer: ChatTokenizer,
    beat: Callable[[], None] = lambda: None,
) -> Prepared:
    """Read and tokenise all rows of a set; `beat` is called after each batch of rows.

    Raises a `TrainerError` (65, or 64 for the mapping of columns) that counts the bad rows up to `MAX_BAD_ROWS` and
    names the first ones.
    """
    reading = _Reading(source, spec, tokenizer)
    pool = ThreadPoolExecutor(1)  # one, as tokenizers have settings of their own
    try:
        running: Future[None] | None = None
        for file in files:
            for batch in _batches(file):
                rest = reading.begin(file, batch)
                if running:
                    running.result()
                running = pool.submit(rest)
                beat()
        if running:
            running.result()
    finally:  # after a failure or a signal, do not wait for the other rows
        pool.shutdown(wait=False, cancel_futures=True)
    return reading.finish(files)


class _Reading:
    """What has been read of a set so far."""

    def __init__(self, source: Source, spec: LoRAJobSpec, tokenizer: ChatTokenizer) -> None:
        self._source, self._spec, self._tokenizer = source, spec, tokenizer
        self._names = ColumnNames(source.columns, source.field)
        self._labels = LabelBook()
        preference = spec.objective is Objective.DPO
        self._encode: Encoder = encoder_of(rules_of(spec), tokenizer, self._labels, preference=preference)
        self._format = None if source.format is DataFormat.AUTO else source.format
        self._detected = f"asked for: {source.format.value}"
        self._examples: list[Examples] = []
        self._digests: list[bytes] = []
        self._rows: dict[str, int] = {}
        self._complaints: list[str] = []
        self._without_end = self._equal_pairs = 0

    def begin(self, file: DataFile, batch: Sequence[Numbered]) -> Callable[[], None]:
        """Check rows, and return what is left to do with them. Batches end in the order in which they began."""
        rows: list[Row] = []
        numbers: list[int] = []
        for number, record in batch:
            try:
                rows.append(self._read(file, number, record))
                numbers.append(number)
            except RowError as error:
                self._complain(file, number, str(error))
        if self._complaints:  # the set is refused; only the other bad rows are still of interest
            return lambda: None
        rest = self._encode(rows)
        return lambda: self._end(file, rows, numbers, rest())

    def _end(self, file: DataFile, rows: Sequence[Row], numbers: Sequence[int], encoded: Encoded) -> None:
        for index, fault in encoded.complaints:
            self._complain(file, numbers[index], fault)
        self._examples.append(encoded.examples)
        self._digests += [digest_of_row(rows[index]) for index in encoded.kept]
        self._rows[file.name] = self._rows.get(file.name, 0) + len(encoded.kept)
        self._without_end += encoded.without_end
        self._equal_pairs += len(rows) - len(encoded.kept)

    def finish(self, files: Sequence[DataFile]) -> Prepared:
        if self._names.fault:
            raise self._names.fault
        if self._complaints:
            raise self._refusal()
        if self._format is None or not self._digests:
            raise bad_data(f"{self._source.location}: the set has no rows", "write one JSON object a line")
        facts = SetFacts(
            format=self._format,
            detected_by=self._detected,
            files=[FileRows(name=file.name, rows=self._rows.get(file.name, 0)) for file in files],
            labels=self._labels.names,
            rows_without_end=self._without_end,
            equal_pairs=self._equal_pairs,
            tail=tail_of(rules_of(self._spec), self._tokenizer),
        )
        digests = np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, 32)
        return Prepared(joined([each for each in self._examples if each.columns]), digests, facts)

    def _read(self, file: DataFile, number: int, record: Record | RowError) -> Row:
        if isinstance(record, RowError):
            raise record
        record = self._names.rename(record, cells=has_text_cells(file.name))
        if self._format is None:
            self._format = detect_format(record, self._spec)
            columns = telling_columns(record, self._format)
            kind = ", as ShareGPT has it" if "conversations" in columns else ""
            self._detected = f"row {number} of {file.name} has the columns {columns}{kind}"
        return reader_of(self._format, source_target=self._spec.task is Task.SEQ2SEQ_LM)(record)

    def _complain(self, file: DataFile, number: int, fault: str) -> None:
        self._complaints.append(f"{file.place} row {number}: {fault}")
        if len(self._complaints) >= MAX_BAD_ROWS:
            raise self._names.fault or self._refusal()

    def _refusal(self) -> TrainerError:
        count = len(self._complaints)
        known = f"{count} or more" if count >= MAX_BAD_ROWS else str(count)
        more = f" ({known} bad rows)" if count > _NAMED_ROWS else ""
        return bad_data("; ".join(self._complaints[:_NAMED_ROWS]) + more, "correct the rows")


def _batches(file: DataFile) -> Iterator[list[Numbered]]:
    records = read_records(file.name, file.path)
    try:
        while batch := list(islice(records, _ROWS_A_CALL)):
            yield batch
    except FileError as error:
        raise bad_data(f"{file.place}: the file {error}") from None
