"""Multiplications are counted from shapes."""

from __future__ import annotations

from pathlib import Path

from quantize.diagnose.work import multiply_adds
from quantize.model import read_signature
from quantize.prepare import prepare
from tests.quantize.net import EXTENT, Net


def test_multiplications_are_those_of_the_shapes() -> None:
    net = Net(13)
    x = net.conv("image", 3, 8, strides=[2, 2])  # 5 x 5 positions
    x = net.conv(x, 8, 8, group=8)
    net.head(x, 8, classes=5)
    model = net.model()
    prepared = prepare(model, read_signature(model, Path("m.onnx")))
    positions = (EXTENT // 2) ** 2
    assert multiply_adds(prepared) == positions * (8 * 3 * 9 + 8 * 9) + 8 * 5


def test_open_shapes_are_not_guessed() -> None:
    net = Net(13)
    net.head(net.conv("image", 3, 8), 8, classes=5)
    model = net.model(shape=["n", 3, "h", "w"])
    prepared = prepare(model, read_signature(model, Path("m.onnx")), image_shape=(3, 9, 9))
    assert multiply_adds(prepared) is None
