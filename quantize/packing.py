"""JSON values and arrays as one array of bytes and back, exactly, without pickle.

SHA-256 of all that follows, the length of the JSON (8 bytes, little-endian), the JSON, and the arrays one
after another, each from a multiple of 64 bytes on. Under `arrays` the JSON says what each is.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Json = dict[str, Any]
Bytes = npt.NDArray[np.uint8]

_DIGEST_BYTES = hashlib.sha256().digest_size
_LENGTH_BYTES = 8
_ALIGNMENT = 64
# Booleans, integers and floats; anything else would need more than its bytes to be read.
_KINDS = frozenset("biuf")


def packed(values: Json, arrays: Mapping[str, Array]) -> Bytes:
    """Everything as bytes, [N] uint8.

    Args:
        values: plain JSON values; floats come back bit for bit.
        arrays: of numbers.
    """
    described: list[Json] = []
    pieces: list[bytes] = []
    start = 0
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"expected numbers, got {array.dtype} for {name!r}")
        content = np.ascontiguousarray(array).tobytes()
        described.append({"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "start": start})
        padding = -len(content) % _ALIGNMENT
        pieces += [content, bytes(padding)]
        start += len(content) + padding
    head = json.dumps({"values": values, "arrays": described}).encode()
    body = b"".join([len(head).to_bytes(_LENGTH_BYTES, "little"), head, *pieces])
    return np.frombuffer(hashlib.sha256(body).digest() + body, np.uint8)


def unpacked(content: Array) -> tuple[Json, dict[str, Array]] | None:
    """What `packed` was given, or None if the bytes are not what it made."""
    if content.dtype != np.uint8 or content.ndim != 1 or len(content) < _DIGEST_BYTES + _LENGTH_BYTES:
        return None
    data = content.tobytes()
    digest, body = data[:_DIGEST_BYTES], memoryview(data)[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    # From here on the bytes are those that were written.
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    try:
        head = json.loads(bytes(body[_LENGTH_BYTES : _LENGTH_BYTES + length]))
        arrays = body[_LENGTH_BYTES + length :]
        return head["values"], {str(one["name"]): _array(one, arrays) for one in head["arrays"]}
    except (ValueError, KeyError, TypeError):  # of another version of this module
        return None


def _array(described: Json, content: memoryview) -> Array:
    dtype, shape = np.dtype(str(described["dtype"])), tuple(int(size) for size in described["shape"])
    if dtype.kind not in _KINDS or min((*shape, 0)) < 0:
        raise ValueError(f"{dtype} {shape} is no array of numbers")
    return np.frombuffer(content, dtype, math.prod(shape), int(described["start"])).reshape(shape).copy()
