"""MATLAB files of structs, against those that scipy writes, and against what scipy would have believed."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import scipy.io

from quantize.acquire.matlab import MatlabError, read_structs

ROWS = [(1, "n02119789", "kit fox, Vulpes", 0.5), (2, "n01440764", "tench é", -3.0), (70000, "x", "", 1e300)]
FIELDS = ("number", "id", "a long name of a field", "weight")


def written(rows: list[tuple[Any, ...]] = ROWS, *, compressed: bool = False, **others: Any) -> bytes:
    stream = io.BytesIO()
    table = np.array(rows, dtype=[(name, object) for name in FIELDS])
    content = {**others, "table": table}
    scipy.io.savemat(stream, content, do_compression=compressed, long_field_names=True)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("integer", [np.uint8, np.int16, np.uint32, np.int64, np.float32, np.float64])
def test_reads_what_scipy_writes(compressed: bool, integer: Any) -> None:
    rows = [(integer(number % 200), *rest) for number, *rest in ROWS]
    content = written(rows, compressed=compressed, before=np.eye(3), name="text")
    assert read_structs(content, "table") == [dict(zip(FIELDS, row, strict=True)) for row in rows]


def test_other_values_are_none() -> None:
    odd = [(np.eye(2), np.array(["a", 1], object), {"inner": 1}, np.zeros(0))]
    assert read_structs(written(odd), "table") == [dict.fromkeys(FIELDS)]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no MATLAB file"),
        (bytes(200), "no MATLAB file"),
        (written()[:-9], "ends too early"),
        (written()[:150], "ends too early"),
        (written().replace(b"table", b"other"), "holds no table"),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes, part: str) -> None:
    with pytest.raises(MatlabError, match=part):
        read_structs(content, "table")


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def claiming(count: int) -> bytes:
    """An array that claims so many structs, and holds none."""
    matrix = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<ii", count, 1))
    matrix += element(1, b"table") + element(5, struct.pack("<i", 8)) + element(1, b"field\0\0\0")
    return bytes(124) + b"\x00\x01IM" + element(14, matrix)


@pytest.mark.robustness(
    "Data",
    "a MATLAB file in ImageNet's development kit claims 2,147,483,647 structs and holds none",
    "refuses it, without memory for them",
)
def test_claims_cost_nothing() -> None:
    with pytest.raises(MatlabError, match="fewer values than it claims"):
        read_structs(claiming((1 << 31) - 1), "table")


@pytest.mark.robustness(
    "Data",
    "a MATLAB file in ImageNet's development kit inflates from 100 kB to 100 MB",
    "refuses it after 16 MiB",
)
def test_inflation_has_a_limit() -> None:
    packed = zlib.compress(bytes(100_000_000))
    content = bytes(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(MatlabError, match="inflates to more than"):
        read_structs(content, "table")


def test_too_many_extents_are_not_multiplied() -> None:
    extents = struct.pack("<i", (1 << 31) - 1) * 100_000
    matrix = element(6, struct.pack("<II", 2, 0)) + element(5, extents) + element(1, b"table")
    with pytest.raises(MatlabError, match="too many"):
        read_structs(bytes(124) + b"\x00\x01IM" + element(14, matrix), "table")


@pytest.mark.parametrize("kind", ["flags", "extents", "width"])
@pytest.mark.parametrize(
    "numbers", [struct.pack("<2d", float("nan"), float("inf")), struct.pack("<2i", 8, 8)]
)
def test_odd_numbers_in_the_structure_are_refused(kind: str, numbers: bytes) -> None:
    odd = element(9 if len(numbers) == 16 else 5, numbers)
    matrix = odd if kind == "flags" else element(6, struct.pack("<II", 2, 0))
    matrix += odd if kind == "extents" else element(5, struct.pack("<ii", 1, 1))
    matrix += element(1, b"table")
    matrix += odd if kind == "width" else element(5, struct.pack("<i", 8))
    matrix += element(1, b"field\0\0\0")
    with pytest.raises(MatlabError):
        read_structs(bytes(124) + b"\x00\x01IM" + element(14, matrix), "table")
