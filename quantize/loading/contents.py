"""Walks over everything that a model holds, wherever it is: graphs in branches, functions, attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx


def messages(message: Any) -> Iterator[Any]:
    """Yields a protobuf message and all that are in it, each before what is in it.

    Every string is read on the way: onnx.proto lets them hold any bytes, which protobuf's implementations
    give back as bytes or refuse to give.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    yield message
    if isinstance(message, onnx.TensorProto):
        yield from _beside_the_numbers(message)
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from messages(inner)
        elif field.type == field.TYPE_STRING:
            for text in [value] if isinstance(value, str | bytes) else value:
                _require_text(text)


def _beside_the_numbers(tensor: onnx.TensorProto) -> Iterator[Any]:
    """What else is in a tensor; to list its fields would copy its data."""
    _require_text(tensor.name)
    _require_text(tensor.doc_string)
    for entries in (tensor.external_data, getattr(tensor, "metadata_props", ())):
        for entry in entries:
            yield from messages(entry)


def _require_text(text: str | bytes) -> None:
    if isinstance(text, bytes):
        text.decode()


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
    return f"{plain(kind)} {called!r}"


def plain(text: str) -> str:
    """A word as it is; in quotes and spelled out if it holds what would end a line, or is not to be seen."""
    return text if text.isprintable() else repr(text)
