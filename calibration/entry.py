"""The bytes of one entry of a store: a header that says what it is and how it must look, then the array."""

from __future__ import annotations

import math
import mmap
import os
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Magic, key, numpy's name of the dtype, number of axes, four sizes, CRC-32 of the content; then CRC-32 of all
# that. Filled up to a multiple of 64 bytes, so that the content is aligned for any instruction set.
_FIELDS = struct.Struct("<8s32s8sI4QI")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = 128
_MAGIC = b"QPSTORE1"
_MAX_AXES = 4


def packed_header(key: str, value: Array) -> bytes:
    """The header of an array of at most four axes; `key` is 64 hexadecimal digits."""
    if value.ndim > _MAX_AXES:
        raise ValueError(f"expected at most {_MAX_AXES} axes, got {value.ndim}")
    sizes = [*value.shape, *([0] * (_MAX_AXES - value.ndim))]
    checksum = zlib.crc32(as_bytes(value))
    dtype = value.dtype.str.encode()
    packed = _FIELDS.pack(_MAGIC, bytes.fromhex(key), dtype, value.ndim, *sizes, checksum)
    return (packed + _CHECKSUM.pack(zlib.crc32(packed))).ljust(HEADER_BYTES, b"\0")


def parsed(content: mmap.mmap | bytes, key: bytes, *, trusted: bool = False) -> Array | None:
    """The array in an entry's bytes, or None if anything about them is wrong.

    Args:
        content: the bytes.
        key: that the entry must be of.
        trusted: the content's checksum was right before, and is not computed again.
    """
    if len(content) < HEADER_BYTES:
        return None
    packed = content[: _FIELDS.size]
    (checksum,) = _CHECKSUM.unpack_from(content, _FIELDS.size)
    magic, digest, dtype, axes, *sizes, of_content = _FIELDS.unpack(packed)
    if checksum != zlib.crc32(packed) or magic != _MAGIC or digest != key:
        return None
    kind, shape = _numbers_of(dtype), tuple(sizes[:axes])
    count = math.prod(shape)
    if kind is None or axes > _MAX_AXES or len(content) != HEADER_BYTES + count * kind.itemsize:
        return None
    value = np.frombuffer(content, kind, count, HEADER_BYTES)
    if not trusted and zlib.crc32(as_bytes(value)) != of_content:
        return None
    try:
        return value.reshape(shape)
    except ValueError:  # an array without elements, of extents that numpy cannot have
        return None


def _numbers_of(dtype: bytes) -> np.dtype[Any] | None:
    """The dtype of a name; None unless it is of plain numbers, which hold neither pointers nor records."""
    try:
        kind = np.dtype(dtype.rstrip(b"\0").decode("ascii"))
    except (TypeError, ValueError, SyntaxError):  # what numpy says of names that it does not know
        return None
    return kind if kind.kind in "fiub" else None


def as_bytes(value: Array) -> memoryview:
    """The content of an array in C order, without a copy where it is in that order."""
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Writes all of `data`; `os.write` may write less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
