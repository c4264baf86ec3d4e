"""Mutations of a protobuf message field by field: most flipped bits of one only make it unreadable.

Values come from a pool of extremes, and names from those in the message itself, so that cycles, duplicates
and dangling references arise as often as nonsense.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from fuzz.harness import Bitwise

_INTEGERS = (-1, 0, 1, 2, 3, 4, 7, 13, 16, 127, 255, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, -(1 << 63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "",
    "x",
    "../x",
    "/etc/passwd",
    "a\nb",
    "<b>",
    "\u202e",
    "Conv",
    "Gemm",
    "If",
    "QLinearConv",
    "location",
)

# Messages of one model that a mutation may choose from; a model of the corpus has some hundred.
_MOST_MESSAGES = 2000


def mutated_model(data: bytes, max_bytes: int, seed: int, bitwise: Bitwise) -> bytes:
    """Similar bytes: three out of four times by changed fields, otherwise by changed bits.

    Args:
        data: any bytes; those that are no model are changed bit by bit.
        max_bytes: the result is not longer.
        seed: decides everything.
        bitwise: changes bits, and keeps to `max_bytes`.
    """
    random = Random(seed)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return bitwise(data, max_bytes)
    if random.random() < 0.25:
        return bitwise(data, max_bytes)
    for _ in range(random.choice((1, 1, 2, 4))):
        found = messages_in(model)
        _edit(random.choice(found), random, _texts_in(found))
    result = model.SerializeToString()
    return result if len(result) <= max_bytes else data[:max_bytes]


def messages_in(message: Any) -> list[Any]:
    """The message and all inside of it, from the outside inwards."""
    found = [message]
    for outer in found:
        for field, value in outer.ListFields():
            if field.message_type is not None:
                found += value if is_repeated(field, value) else [value]
        if len(found) > _MOST_MESSAGES:
            break
    return found


def is_repeated(field: Any, value: Any) -> bool:
    """Whether a field holds several values."""
    return field.message_type is not None and not hasattr(value, "ListFields")


def _texts_in(messages: list[Any]) -> list[str]:
    return [
        value
        for message in messages
        for field, value in message.ListFields()
        if field.cpp_type == field.CPPTYPE_STRING and isinstance(value, str)
    ]


def _edit(message: Any, random: Random, texts: list[str]) -> None:
    """Changes one field: more often one that is set, because most others mean nothing."""
    fields = [field for field, _ in message.ListFields()]
    if not fields or random.random() < 0.2:
        fields = list(message.DESCRIPTOR.fields)
    field = random.choice(fields)
    value = getattr(message, field.name)
    if hasattr(value, "append") or hasattr(value, "add"):
        _edit_many(value, field, random, texts)
    elif random.random() < 0.25:
        message.ClearField(field.name)
    elif field.message_type is not None:
        value.SetInParent()
    else:
        setattr(message, field.name, _value(field, value, random, texts))


def _edit_many(values: Any, field: Any, random: Random, texts: list[str]) -> None:
    """Adds, doubles, removes, replaces or moves an element of a repeated field."""
    position = random.randrange(len(values)) if values else None
    action = random.choice(("add", "double", "remove", "replace", "move"))
    if field.message_type is not None:
        if position is None or action == "add":
            values.add()
        elif action == "double":
            values.add().CopyFrom(values[position])
        elif action == "remove":
            del values[position]
        else:
            moved = values.pop(position)
            values.insert(random.randrange(len(values) + 1), moved)
    elif position is None or action in ("add", "double"):
        values.append(_value(field, None, random, texts))
    elif action == "remove":
        del values[position]
    else:
        values[position] = _value(field, values[position], random, texts)


def _value(field: Any, old: Any, random: Random, texts: list[str]) -> Any:
    """A value of the field's type: extreme, or one that stands elsewhere in the message."""
    makers: dict[int, Callable[[], Any]] = {
        field.CPPTYPE_STRING: lambda: _text(field, old, random, texts),
        field.CPPTYPE_FLOAT: lambda: random.choice(_FLOATS),
        field.CPPTYPE_DOUBLE: lambda: random.choice(_FLOATS),
        field.CPPTYPE_INT64: lambda: random.choice(_INTEGERS),
        field.CPPTYPE_UINT64: lambda: abs(random.choice(_INTEGERS)),
        field.CPPTYPE_INT32: lambda: random.choice(_INTEGERS[:-3]),
        field.CPPTYPE_ENUM: lambda: random.randrange(32) if field.enum_type is None else _enum(field, random),
    }
    return makers[field.cpp_type]()


def _enum(field: Any, random: Random) -> int:
    return int(random.choice(field.enum_type.values).number)


def _text(field: Any, old: Any, random: Random, texts: list[str]) -> str | bytes:
    if field.type == field.TYPE_BYTES:
        content = bytes(old or b"\0")
        cut = random.randrange(len(content) + 1)
        return random.choice((content[:cut], content + content[:cut], content[::-1], b"", b"\xff" * cut))
    return random.choice(texts) if texts and random.random() < 0.7 else random.choice(_TEXTS)
