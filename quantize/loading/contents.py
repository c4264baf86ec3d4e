"""Walks over everything that a model holds, wherever it is: graphs in branches, functions, attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx


def messages(message: Any) -> Iterator[Any]:
    """Yields a protobuf message and all that are in it, each before what is in it.

    Every string is read on the way.

    Raises:
        UnicodeDecodeError: one is not UTF-8.
    """
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            if field.cpp_type == field.CPPTYPE_STRING and not isinstance(value, str | bytes):
                list(value)
        elif hasattr(value, "DESCRIPTOR"):
            yield from messages(value)
        else:
            for item in value:
                yield from messages(item)


def tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor: initializers and attributes, also those of branches, loops and functions."""
    return (found for found in messages(message) if isinstance(found, onnx.TensorProto))


def nodes(message: Any) -> Iterator[onnx.NodeProto]:
    """Every operator, also those of branches, loops and functions."""
    return (found for found in messages(message) if isinstance(found, onnx.NodeProto))


def label(node: onnx.NodeProto) -> str:
    """What to call an operator in messages: its name, or else what it makes."""
    called = node.name or next((name for name in node.output if name), "")
    kind = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return f"{kind} {called!r}"
