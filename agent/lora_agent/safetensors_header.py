"""Reads what tensors a safetensors file says it has, without reading one of them.

The file comes from outside, so nothing in its header is believed: its length is bounded, and names, formats, shapes and
places have to fit each other and the size of the file. What is read here is what an engine will read; where two readers
could see two things, such as in a name that occurs twice, the file is refused.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Enough for a hundred thousand tensors."""
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 8
_METADATA = "__metadata__"
_BYTES_PER_VALUE = (
    dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
    | dict.fromkeys(("U16", "I16", "F16", "BF16"), 2)
    | dict.fromkeys(("U32", "I32", "F32"), 4)
    | dict.fromkeys(("U64", "I64", "F64", "C64"), 8)
)


class HeaderError(ValueError):
    """Why a file is no whole safetensors file, in one sentence without the name of the file."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What the header says of one tensor."""

    dtype: str
    """As in the file: F32, F16, BF16 and others."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    entry: TensorEntry
    start: int
    end: int


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a file by name, in the order of the names.

    Raises `HeaderError` for a file that is cut or damaged, and `OSError` where it cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        length = int.from_bytes(_exactly(content.read(_LENGTH_BYTES), _LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise HeaderError(f"its header says that it has {length} bytes, and at most {MAX_HEADER_BYTES} are read")
        header = _exactly(content.read(length), length)
    placed = {name: _tensor(name, value) for name, value in sorted(_fields(header).items()) if name != _METADATA}
    _check_places(placed, size - _LENGTH_BYTES - length)
    return {name: each.entry for name, each in placed.items()}


def shown(text: str, length: int = 160) -> str:
    """Return a text from a file for a message: one line, printable, not longer than that."""
    line = "".join(each if each.isprintable() else "?" for each in text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"


def _exactly(read: bytes, length: int) -> bytes:
    if len(read) < length:
        raise HeaderError(f"it is cut: {len(read)} of {length} bytes of its header are there")
    return read


def _fields(header: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(header, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        if isinstance(error, HeaderError):
            raise
        raise HeaderError("its header is no JSON") from None
    if not isinstance(fields, dict):
        raise HeaderError("its header is no JSON object")
    return fields


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise HeaderError(f"its header has {shown(name)} twice")
        found[name] = value
    return found


def _tensor(name: str, value: Any) -> _Placed:
    if not isinstance(value, dict):
        raise HeaderError(f"tensor {shown(name)} has no description")
    dtype, shape, places = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    width = _BYTES_PER_VALUE.get(dtype) if isinstance(dtype, str) else None
    if width is None:
        raise HeaderError(f"tensor {shown(name)} has the unknown number format {shown(str(dtype), 40)}")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise HeaderError(f"tensor {shown(name)} has no valid shape")
    if not _are_counts(places) or len(places) != 2:
        raise HeaderError(f"tensor {shown(name)} has no valid data_offsets")
    start, end = places
    needed = math.prod(shape) * width
    if end - start != needed:
        raise HeaderError(f"tensor {shown(name)} needs {needed} bytes by its shape, and has {end - start}")
    return _Placed(TensorEntry(str(dtype), tuple(shape)), start, end)


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    """Whether these are numbers that a file can have; True and False are none."""
    return isinstance(values, list) and all(type(each) is int and 0 <= each < 2**63 for each in values)


def _check_places(placed: dict[str, _Placed], available: int) -> None:
    """Check that the tensors lie end to end and fill the file: no byte belongs to two, none to nobody."""
    end = 0
    for name, each in sorted(placed.items(), key=lambda item: (item[1].start, item[1].end)):
        if each.start != end:
            fault = "overlaps another one" if each.start < end else "leaves a gap before it"
            raise HeaderError(f"tensor {shown(name)} {fault}")
        end = each.end
    if available < end:
        raise HeaderError(f"it is cut: {max(available, 0)} of {end} bytes of its tensors are there")
    if available > end:
        raise HeaderError(f"it has {available - end} bytes after its last tensor")
