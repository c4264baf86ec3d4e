"""The one kind of MATLAB file that we read: an array of structs that hold numbers and words.

scipy's reader is not used, because it believes the file: it makes an array of as many elements as are
claimed, inflates without a limit, and descends in native code as deep as the file goes. Here nothing is made
but what the bytes hold. The format is level 5, as MATLAB 5 to 7 write it ("MAT-File Format", The MathWorks,
R2019b).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

# A header of text, the version, and the order of bytes, as a little-endian machine writes them.
_HEADER_BYTES = 128
_VERSION_AND_ORDER = b"\x00\x01IM"

_TAG = struct.Struct("<II")
# Of a small element, whose size (at most 4) stands in the upper half of its kind.
_SMALL_BYTES = 4

# Kinds of elements: numbers by the letter that `struct` has for them, and the two that hold others.
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_MATRIX, _COMPRESSED = 14, 15

# Classes of matrices: arrays of structs, of characters, and of numbers from double to uint64.
_STRUCT, _CHAR, _NUMERIC = 2, 4, range(6, 16)

# ImageNet's classes take two or three megabytes, and have eight fields.
_INFLATED_LIMIT_BYTES = 1 << 24
_MOST_FIELDS = 100

# Flags are two numbers, and a matrix has two extents, or some more.
_MOST_NUMBERS = 32

Value = int | float | str | None
Element = tuple[int, memoryview]


class MatlabError(ValueError):
    """The bytes are no such file; the message is one clause."""


@dataclass(frozen=True)
class _Matrix:
    """The beginning of a matrix, and what follows it."""

    kind: int
    count: int
    name: str
    rest: Iterator[Element]


def read_structs(content: bytes, name: str) -> list[dict[str, Value]]:
    """Returns the structs of one variable, in MATLAB's order: field -> number, text, or None for all else.

    Raises:
        MatlabError: there is no such variable, or the bytes contradict themselves.
    """
    if content[_HEADER_BYTES - 4 : _HEADER_BYTES] != _VERSION_AND_ORDER:
        raise MatlabError("it is no MATLAB file of version 5 to 7")
    for kind, body in _elements(memoryview(content)[_HEADER_BYTES:]):
        if kind == _COMPRESSED:
            kind, body = next(_elements(_inflated(body)), (0, body))  # noqa: PLW2901
        if kind != _MATRIX:
            raise MatlabError("it holds something else than variables")
        matrix = _matrix(body)
        if matrix.name == name:
            return _structs(matrix)
    raise MatlabError(f"it holds no {name}")


def _elements(content: memoryview) -> Iterator[Element]:
    """Kind and content of the elements that follow one another; a torn one is an error."""
    position = 0
    while position < len(content):
        if position + _TAG.size > len(content):
            raise MatlabError("it ends too early")
        kind, size_bytes = _TAG.unpack_from(content, position)
        begin = position + _TAG.size
        if kind >> 16:
            kind, size_bytes, begin = kind & 0xFFFF, kind >> 16, position + _SMALL_BYTES
            if size_bytes > _SMALL_BYTES:
                raise MatlabError("a small element is too large")
            position += _TAG.size
        else:
            # All but compressed ones are filled up to multiples of eight bytes.
            position = begin + size_bytes + (0 if kind == _COMPRESSED else -size_bytes % _TAG.size)
        if begin + size_bytes > len(content):
            raise MatlabError("it ends too early")
        yield kind, content[begin : begin + size_bytes]


def _inflated(content: memoryview) -> memoryview:
    try:
        inflated = zlib.decompressobj().decompress(content, _INFLATED_LIMIT_BYTES + 1)
    except zlib.error as error:
        raise MatlabError(f"it cannot be inflated: {error}") from error
    if len(inflated) > _INFLATED_LIMIT_BYTES:
        raise MatlabError(f"it inflates to more than {_INFLATED_LIMIT_BYTES} bytes")
    return memoryview(inflated)


def _matrix(content: memoryview) -> _Matrix:
    """The class, the number of elements and the name of a matrix; an empty one has no class."""
    rest = _elements(content)
    flags = _integers(next(rest, None)) or (0,)
    extents = _integers(next(rest, None))
    _, name = next(rest, (0, memoryview(b"")))
    if any(extent < 0 for extent in extents):
        raise MatlabError("a matrix has a negative extent")
    return _Matrix(flags[0] & 0xFF, math.prod(extents), bytes(name).decode("latin-1"), rest)


def _structs(matrix: _Matrix) -> list[dict[str, Value]]:
    if matrix.kind != _STRUCT:
        raise MatlabError(f"its {matrix.name} is no array of structs")
    width = (_integers(next(matrix.rest, None)) or (0,))[0]
    _, names = next(matrix.rest, (0, memoryview(b"")))
    if width < 1 or not names or len(names) % width or len(names) // width > _MOST_FIELDS:
        raise MatlabError("its structs have no fields, or far too many")
    fields = [
        bytes(names[start : start + width]).partition(b"\0")[0].decode("latin-1")
        for start in range(0, len(names), width)
    ]
    found: list[dict[str, Value]] = []
    while len(found) < matrix.count:
        one = {field: _value(next(matrix.rest, None)) for field in fields}
        found.append(one)
    return found


def _value(element: Element | None) -> Value:
    """One number, or a text; whatever else a field may hold is None."""
    if element is None or element[0] != _MATRIX:
        raise MatlabError("it holds fewer values than it claims")
    matrix = _matrix(element[1])
    content = next(matrix.rest, None)
    if matrix.kind == _CHAR:
        return "" if content is None else _text(content)
    if matrix.kind in _NUMERIC and matrix.count == 1:
        numbers = _numbers(content)
        return numbers[0] if len(numbers) == 1 else None
    return None


def _numbers(element: Element | None) -> tuple[int | float, ...]:
    if element is None:
        return ()
    kind, content = element
    letter = _NUMBERS.get(kind)
    count, torn = divmod(len(content), struct.calcsize(letter)) if letter else (0, 1)
    if torn or count > _MOST_NUMBERS:
        raise MatlabError("numbers are of an unknown kind, or too many")
    return struct.unpack(f"<{count}{letter}", content)


def _integers(element: Element | None) -> tuple[int, ...]:
    numbers = _numbers(element)
    if any(isinstance(number, float) for number in numbers):
        raise MatlabError("flags or extents are no integers")
    return tuple(int(number) for number in numbers)


def _text(element: Element) -> str:
    kind, content = element
    try:
        return bytes(content).decode(_TEXTS[kind])
    except (KeyError, UnicodeDecodeError) as error:
        raise MatlabError("a text is of an unknown kind, or damaged") from error
