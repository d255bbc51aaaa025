"""Headers: those of real files are read, and nothing that is said in a false one is believed."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lora_agent.safetensors_header import MAX_HEADER_BYTES, HeaderError, TensorEntry, read_header


@pytest.fixture
def file(tmp_path):
    """Write a header, given as an object or as bytes, and some bytes after it."""

    def write(header, data=b""):
        encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / "a.safetensors"
        path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
        return path

    return write


def tensor(start, end, shape=None, dtype="U8"):
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def test_names_formats_and_shapes_of_a_real_file(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "b": torch.zeros(2, 3, dtype=torch.bfloat16),
        "a": torch.zeros(4),
        "scalar": torch.tensor(1.0, dtype=torch.float16),
        "empty": torch.zeros(0, 5),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    assert read_header(path) == {
        "a": TensorEntry("F32", (4,)),
        "b": TensorEntry("BF16", (2, 3)),
        "empty": TensorEntry("F32", (0, 5)),
        "scalar": TensorEntry("F16", ()),
    }
    assert list(read_header(path)) == ["a", "b", "empty", "scalar"]


def test_no_tensor_is_read(file):
    """A file with a hole in it of a size that no memory has."""
    size = 1 << 40
    path = file({"a": tensor(0, size)})
    with path.open("r+b") as opened:
        opened.truncate(path.stat().st_size + size)
    assert read_header(path) == {"a": TensorEntry("U8", (size,))}


@pytest.mark.parametrize("length", [0, 7, 8, 20])
def test_a_file_that_ends_within_its_header(file, length):
    path = file({"a": tensor(0, 4)}, b"1234")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(HeaderError, match=r"it is cut: [0-9]+ of [0-9]+ bytes of its header"):
        read_header(path)


def test_a_header_that_says_it_is_longer_than_anything(file):
    path = file(b"{}")
    path.write_bytes((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(HeaderError, match=f"at most {MAX_HEADER_BYTES} are read"):
        read_header(path)


FIRST = tensor(0, 4)


@pytest.mark.parametrize(
    ("header", "data", "told"),
    [
        (b"{", b"", "no JSON"),
        (b"\xff\xfe", b"", "no JSON"),
        (b"[" * 100_000, b"", "no JSON"),
        (b"[]", b"", "no JSON object"),
        (b'{"a": 1, "a": 2}', b"", "has a twice"),
        (b'{"a": {"dtype": "U8", "dtype": "F32", "shape": [4], "data_offsets": [0, 4]}}', b"1234", "has dtype twice"),
        ({"a": 1}, b"", "tensor a has no description"),
        ({"a": tensor(0, 4, dtype="F4")}, b"1234", "tensor a has the unknown number format F4"),
        ({"a": FIRST | {"dtype": None}}, b"1234", "unknown number format None"),
        ({"a": FIRST | {"shape": [-4]}}, b"1234", "tensor a has no valid shape"),
        ({"a": FIRST | {"shape": [4.0]}}, b"1234", "tensor a has no valid shape"),
        ({"a": FIRST | {"shape": [True] * 4}}, b"1234", "tensor a has no valid shape"),
        ({"a": FIRST | {"shape": [1] * 9}}, b"1234", "tensor a has no valid shape"),
        ({"a": FIRST | {"data_offsets": [0]}}, b"1234", "tensor a has no valid data_offsets"),
        ({"a": FIRST | {"data_offsets": [4, 0]}}, b"1234", "needs 4 bytes by its shape, and has -4"),
        ({"a": tensor(0, 4, [5])}, b"1234", "needs 5 bytes by its shape, and has 4"),
        ({"a": tensor(0, 4, [4], "F32")}, b"1234", "needs 16 bytes by its shape, and has 4"),
        ({"a": FIRST, "b": tensor(2, 6)}, b"123456", "tensor b overlaps another one"),
        ({"a": FIRST, "b": tensor(0, 4)}, b"1234", "overlaps another one"),
        ({"a": FIRST, "b": tensor(6, 8)}, b"12345678", "tensor b leaves a gap"),
        ({"b": tensor(2, 6)}, b"123456", "tensor b leaves a gap"),
        ({"a": FIRST}, b"123", "it is cut: 3 of 4 bytes of its tensors"),
        ({"a": FIRST}, b"12345", "it has 1 bytes after its last tensor"),
        ({}, b"1", "it has 1 bytes after its last tensor"),
    ],
)
def test_a_header_that_does_not_fit(file, header, data, told):
    with pytest.raises(HeaderError, match=told):
        read_header(file(header, data))


def test_a_missing_file_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "nothing")
