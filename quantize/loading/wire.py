"""Counts what a serialized protobuf message would become, before anything of it is made.

Encoding: a message is a sequence of fields, each a varint key (`number << 3 | wire type`) and a value: a
varint, 8 bytes, a length and that many bytes, or 4 bytes (protobuf.dev/programming-guides/encoding). Strings
and bytes are stepped over, so that the count costs time by the number of fields, not by the size of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from quantize.loading.limits import FIELD_LIMIT_COUNT, PACKED_LIMIT_BYTES

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
# protobuf's own parsers refuse what is nested deeper.
_DEPTH_LIMIT = 100
# A varint holds 64 bits, 7 in a byte.
_VARINT_LIMIT_BYTES = 10


class WireError(ValueError):
    """The bytes are no message, or one that would take more memory than is allowed."""


def check_wire(content: bytes, descriptor: Any) -> None:
    """Walks over a serialized message.

    Args:
        content: of the file.
        descriptor: protobuf's description of the message.

    Raises:
        WireError: a field ends behind its message, is nested too deeply, or there are too many.
    """
    fields, packed = 0, 0
    # Messages that are under way: where each ends, and what it is.
    open_messages: list[tuple[int, Any]] = [(len(content), descriptor)]
    position = 0
    while open_messages:
        end, kind = open_messages[-1]
        if position == end:
            open_messages.pop()
            continue
        fields += 1
        if fields > FIELD_LIMIT_COUNT:
            raise WireError(f"has more than {FIELD_LIMIT_COUNT} fields, which no image classifier needs")
        key, position = _varint(content, position, end)
        number, wire = key >> 3, key & 7
        if wire != _LENGTH:
            position = _after_scalar(content, position, end, wire)
            continue
        size, position = _varint(content, position, end)
        if position + size > end:
            raise WireError("is cut off or damaged: a field ends behind the message that it is in")
        inner = _inner(kind).get(number)
        if inner is None:
            position += size
        elif inner == _PACKED:
            packed += size
            position += size
            if packed > PACKED_LIMIT_BYTES:
                raise WireError(
                    f"spells more than {PACKED_LIMIT_BYTES} bytes of numbers one by one; save its weights "
                    "as raw data"
                )
        else:
            if len(open_messages) > _DEPTH_LIMIT:
                raise WireError(f"is nested more than {_DEPTH_LIMIT} deep")
            open_messages.append((position + size, inner))


_PACKED = "packed"


@cache
def _inner(kind: Any) -> Mapping[int, Any]:
    """Number of a field → what is inside: the description of a message, or `_PACKED` varints."""
    found: dict[int, Any] = {}
    for entry in kind.fields:
        if entry.message_type is not None:
            found[entry.number] = entry.message_type
        elif entry.cpp_type not in (entry.CPPTYPE_STRING, entry.CPPTYPE_FLOAT, entry.CPPTYPE_DOUBLE):
            found[entry.number] = _PACKED
    return found


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(_VARINT_LIMIT_BYTES):
        if position >= end:
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position
    raise WireError("is cut off or damaged: a number has no end")


def _after_scalar(content: bytes, position: int, end: int, wire: int) -> int:
    if wire == _VARINT:
        return _varint(content, position, end)[1]
    width = {_FIXED64: 8, _FIXED32: 4}.get(wire)
    if width is None:
        raise WireError("is damaged, or no ONNX file: a field of unknown kind")
    if position + width > end:
        raise WireError("is cut off or damaged: a number ends behind the message that it is in")
    return position + width
