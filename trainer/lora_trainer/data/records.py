"""From the bytes of a file to its records, one at a time, whatever the kind of file.

A record that does not parse comes out as its error, so that the reader can count several; a file that cannot be read
at all is a `FileError`. No message quotes the content. Numbers are lines in files of lines, and rows elsewhere.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from lora_trainer.data.rows import FileError, Record, RowError, kind_of

_TEXT_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
SUFFIXES = (*_TEXT_KINDS, *(f"{kind}.gz" for kind in _TEXT_KINDS), ".parquet")
_ROWS_A_BATCH = 1000
_LONGEST_CELL = 2**30  # characters
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Numbered = tuple[int, Record | RowError]


def read_records(name: str, path: Path) -> Iterator[Numbered]:
    """Yield the records of a file, which its name says the kind of. Raises `FileError`."""
    kind = name.lower().removesuffix(".gz")
    if kind.endswith(".parquet"):
        yield from _read_parquet(path)
        return
    with _opened(path, packed=name.lower().endswith(".gz")) as content:
        try:
            yield from _read_text_kind(kind, content)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise FileError("is no whole gzip file; upload it again") from None


def has_text_cells(name: str) -> bool:
    """Return whether all values of the file are texts, which may hold lists as JSON."""
    return name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def _read_text_kind(kind: str, content: IO[bytes]) -> Iterator[Numbered]:
    if kind.endswith((".csv", ".tsv")):
        return _read_table(content, "," if kind.endswith(".csv") else "\t")
    return _read_json(content.read()) if kind.endswith(".json") else _read_lines(content)


def _opened(path: Path, *, packed: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _read_lines(lines: Iterable[bytes]) -> Iterator[Numbered]:
    for number, line in enumerate(lines, start=1):
        content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if content.strip():
            yield number, _parsed(content)


def _parsed(line: bytes) -> Record | RowError:
    try:
        return _record(json.loads(line.decode()))
    except UnicodeDecodeError as error:
        return RowError(f"byte {error.start} is not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        return RowError(f"not JSON: {error.msg} at column {error.colno}; write one JSON object a line")
    except RecursionError:
        return RowError("nested too deeply; write one flat JSON object a line")


def _read_json(content: bytes) -> Iterator[Numbered]:
    """Read an array of objects, or an object with it under data; lines of JSON under this name are common too."""
    try:
        document = json.loads(content.removeprefix(_BYTE_ORDER_MARK).decode())
    except UnicodeDecodeError as error:
        raise FileError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise FileError("is nested too deeply; write an array of flat objects") from None
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise FileError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
        yield from _read_lines(content.splitlines(keepends=True))
        return
    if isinstance(document, dict):
        document = document["data"] if isinstance(document.get("data"), list) else [document]
    if not isinstance(document, list):
        raise FileError(f"holds {kind_of(document)}; write an array of objects")
    for number, row in enumerate(document, start=1):
        yield number, _record(row)


def _record(value: Any) -> Record | RowError:
    return value if isinstance(value, dict) else RowError(f"is {kind_of(value)}; write a JSON object")


def _read_table(content: IO[bytes], delimiter: str) -> Iterator[Numbered]:
    csv.field_size_limit(_LONGEST_CELL)
    number = 0
    try:
        rows = csv.reader(io.TextIOWrapper(content, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        header = next(rows, [])
        _check_header(header)
        for number, cells in enumerate(rows, start=1):
            if cells:
                yield number, _row_of_cells(header, cells)
    except UnicodeDecodeError:
        raise FileError(f"has bytes that are not UTF-8 after row {number}; save the file as UTF-8") from None
    except csv.Error:
        raise FileError(f"has a broken quotation after row {number}; put quotes in a cell twice") from None


def _check_header(header: list[str]) -> None:
    if not all(name.strip() for name in header):
        raise FileError("has a column without a name in its first line; name every column")
    if len(set(header)) < len(header):
        raise FileError("has two columns of one name in its first line; name them apart")


def _row_of_cells(header: list[str], cells: list[str]) -> Record | RowError:
    if len(cells) != len(header):
        return RowError(f"has {len(cells)} cells and the first line {len(header)}; put cells with commas into quotes")
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def _read_parquet(path: Path) -> Iterator[Numbered]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_A_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError):
        raise FileError("is no whole Parquet file; upload it again") from None
