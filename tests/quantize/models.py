"""Small seeded classifiers, one for each pattern that networks in the wild are made of; with their ranges."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

from quantize.model import Signature, read_signature
from quantize.operators import Inventory, take_inventory
from quantize.prepare import prepare
from quantize.qdq import Plan, write_qdq
from quantize.ranges import RangeTable, collect_extremes, collect_histograms
from quantize.scales import scale_maker
from quantize.target import PORTABLE, Target
from tests.quantize import zoo_networks, zoo_oddities  # they fill the zoo
from tests.quantize.net import CLASSES, EXTENT, ZOO, FloatArray, Net, images

__all__ = [
    "CLASSES",
    "EXTENT",
    "ZOO",
    "Case",
    "Net",
    "images",
    "make_case",
    "random_network",
    "zoo_case",
    "zoo_networks",
    "zoo_oddities",
]


def random_network(seed: int, *, length: int = 14) -> onnx.ModelProto:
    """A seeded chain of operators that keep [N, 6, EXTENT, EXTENT], each on a recent tensor, then a head."""
    net = Net(13, seed=seed)
    choose = net.random.integers
    made = [net.conv("image", 3, 6)]

    def recent() -> str:
        return made[-int(choose(1, min(4, len(made)) + 1))]

    makers: list[Callable[[str], str]] = [
        lambda x: net.conv(x, 6, 6),
        lambda x: net.conv(x, 6, 6, group=6),
        net.relu,
        net.clip,
        lambda x: net.clip(x, -1.0, 1.0),
        lambda x: net.node("Sigmoid", x),
        lambda x: net.node("LeakyRelu", x, alpha=0.1),
        lambda x: net.node("Tanh", x),
        lambda x: net.node("Transpose", x, perm=[0, 1, 3, 2]),
        lambda x: net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        lambda x: net.node("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        lambda x: net.node("Add", x, recent()),
        lambda x: net.node("Mul", x, recent()),
        lambda x: net.node("Mul", x, net.constant(0.7)),
        lambda x: net.conv(net.node("Concat", x, recent(), axis=1), 12, 6, 1),
        lambda x: net.node("Mul", x, net.node("Sigmoid", net.node("GlobalAveragePool", recent()))),
        lambda x: net.batch_norm(x, 6),
    ]
    for _ in range(length):
        x = made[-1] if choose(4) else recent()
        made.append(makers[int(choose(len(makers)))](x))
    net.head(net.conv(made[-1], 6, 6, 1), 6)
    return net.model()


@dataclass(frozen=True, eq=False)
class Case:
    """A model of the zoo, ready to be quantized.

    Attributes:
        model: as it was made.
        prepared: what `prepare` made of it.
        images: what the ranges were measured on.
    """

    model: onnx.ModelProto
    signature: Signature
    prepared: onnx.ModelProto
    inventory: Inventory
    ranges: RangeTable
    images: FloatArray
    target: Target = PORTABLE

    @property
    def operators(self) -> list[str]:
        return [operator.name for operator in self.inventory.quantizable]

    def plan(
        self, chosen: Collection[str] | None = None, *, per_channel: bool = True, rule: str = "minmax"
    ) -> Plan:
        names = self.operators if chosen is None else chosen
        scales = {tensor: self.ranges.scale(tensor, rule) for tensor in self.ranges.extremes.lows}
        return Plan(dict.fromkeys(names, per_channel), scales)

    def qdq(self, chosen: Collection[str] | None = None, *, per_channel: bool = True) -> onnx.ModelProto:
        plan = self.plan(chosen, per_channel=per_channel)
        return write_qdq(self.prepared, self.inventory, plan, self.target)


def make_case(model: onnx.ModelProto, target: Target = PORTABLE) -> Case:
    signature = read_signature(model, Path("net.onnx"))
    prepared = prepare(model, signature)
    inventory = take_inventory(prepared, target)
    shape = [extent or EXTENT for extent in signature.input_shape[1:]]
    batch = images(shape=shape)
    tensors = dict.fromkeys(name for operator in inventory.quantizable for name in operator.tensors)
    extremes = collect_extremes(prepared, list(tensors), [(batch, None)], threads=1)
    ranges = RangeTable(
        extremes,
        lambda: collect_histograms(prepared, extremes, [(batch, None)], threads=1),
        scale_maker(target),
    )
    return Case(model, signature, prepared, inventory, ranges, batch, target)


@cache
def zoo_case(name: str, opset: int = 13, target: Target = PORTABLE) -> Case:
    return make_case(ZOO[name](opset), target)


def shifted(model: onnx.ModelProto, amount: float, *, score: int = 0) -> onnx.ModelProto:
    """The same classifier of `make_classifier` with one score moved."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    bias = next(tensor for tensor in changed.graph.initializer if tensor.name == "b3")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[score] += amount
    bias.CopyFrom(onnx.numpy_helper.from_array(values, "b3"))
    return changed
