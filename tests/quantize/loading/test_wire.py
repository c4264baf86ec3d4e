"""Counting the fields of a message without making it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantize.loading import wire
from quantize.loading.wire import WireError, check_wire
from tests.quantize.models import ZOO

MODEL = onnx.ModelProto.DESCRIPTOR


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_model_passes(name: str) -> None:
    check_wire(ZOO[name](13).SerializeToString(), MODEL)


def test_unknown_fields_are_stepped_over() -> None:
    # Field 200 with every wire type but groups: a varint, 8 bytes, a length and 4 bytes.
    keys = {0: b"\xff\x01", 1: bytes(8), 2: b"\x03abc", 5: bytes(4)}
    content = b"".join(
        bytes([(200 << 3 | kind) & 0x7F | 0x80, 200 << 3 >> 7]) + v for kind, v in keys.items()
    )
    check_wire(content, MODEL)
    assert onnx.ModelProto.FromString(content).ByteSize() == len(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x3a\x05\x0a", "ends behind the message"),
        (b"\x3a\x02\x0a\x05", "ends behind the message"),
        (b"\x08", "a number has no end"),
        (b"\x08" + b"\xff" * 11, "a number has no end"),
        (b"\x09abc", "ends behind the message"),
        (b"\x0f", "of unknown kind"),
        (b"\x0b\x0c", "of unknown kind"),
    ],
)
def test_what_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        check_wire(content, MODEL)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx.GraphProto(node=[onnx.NodeProto()] * 5)
    check_wire(graph.SerializeToString(), onnx.GraphProto.DESCRIPTOR)
    monkeypatch.setattr(wire, "FIELD_LIMIT_COUNT", 4)
    with pytest.raises(WireError, match="more than 4 fields"):
        check_wire(graph.SerializeToString(), onnx.GraphProto.DESCRIPTOR)
    monkeypatch.setattr(wire, "PACKED_LIMIT_BYTES", 7)
    tensor = onnx.TensorProto(int64_data=[0] * 8)
    with pytest.raises(WireError, match="more than 7 bytes of numbers"):
        check_wire(tensor.SerializeToString(), onnx.TensorProto.DESCRIPTOR)


def test_the_cost_does_not_grow_with_the_weights() -> None:
    """Raw bytes and floats are as large in memory as in the file, and are stepped over in one go."""
    large = onnx.TensorProto(raw_data=bytes(1 << 24), float_data=np.zeros(1 << 20, np.float32))
    check_wire(large.SerializeToString(), onnx.TensorProto.DESCRIPTOR)
