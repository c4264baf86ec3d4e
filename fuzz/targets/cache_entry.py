"""An entry of the cache: bytes on disk -> an array, or none."""

from __future__ import annotations

import zlib

from calibration.entry import _CHECKSUM, _FIELDS, HEADER_BYTES, parsed
from fuzz.harness import Target

KEY = bytes(range(32))


def run(data: bytes) -> None:
    """Reads the bytes as they are, and again with the checksums put right, which no mutation finds."""
    parsed(data, KEY)
    if len(data) < HEADER_BYTES:
        return
    magic, _, dtype, axes, *sizes, _ = _FIELDS.unpack_from(data)
    packed = _FIELDS.pack(magic, KEY, dtype, axes, *sizes, zlib.crc32(data[HEADER_BYTES:]))
    header = (packed + _CHECKSUM.pack(zlib.crc32(packed))).ljust(HEADER_BYTES, b"\0")
    array = parsed(header + data[HEADER_BYTES:], KEY)
    assert array is None or (array.dtype.kind in "fiub" and array.nbytes == len(data) - HEADER_BYTES)


TARGET = Target("cache_entry", "entries of the cache", run, max_bytes=512, short_runs=20000)
