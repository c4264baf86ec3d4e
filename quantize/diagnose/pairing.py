"""Finds the tensors of an int8 model that stand for tensors of the fp32 model it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from quantize.graph import GraphIndex
from quantize.operators import Inventory
from quantize.scales import ActivationScale


@dataclass(frozen=True)
class TensorPair:
    """A tensor of the fp32 graph and the 8-bit tensor that stands for it: `real ≈ (q - zero_point) · scale`.

    Attributes:
        tensor: name in the fp32 graph.
        quantized: name of the uint8 tensor, in both formats of the int8 model.
        scale: how integers become real numbers.
        operator: name of the operator that makes it, or absorbs the Relu or Clip that makes it.
        op_type: its type; empty, like `operator`, for the input of the model.
    """

    tensor: str
    quantized: str
    scale: ActivationScale
    operator: str
    op_type: str


def pair_tensors(fp32: onnx.ModelProto, inventory: Inventory, qdq: onnx.ModelProto) -> list[TensorPair]:
    """Pairs the tensors by the operators that read them, which keep their names.

    Data movement is left out: what a MaxPool or Reshape passes on was paired before.

    Args:
        fp32: the prepared model.
        inventory: its operators.
        qdq: the int8 model in its QDQ format.

    Returns:
        One pair per quantized activation, in the order in which the fp32 graph makes them.
    """
    found: dict[str, TensorPair] = {}
    moved = {node.output[0] for node in fp32.graph.node if node.name in set(inventory.movement)}
    makers = {operator.output: (operator.name, operator.op_type) for operator in inventory.quantizable}
    makers |= {
        name: (node.name, node.op_type)
        for node in fp32.graph.node
        for name in node.output
        if name not in makers
    }
    for tensor, quantized, scale in _read_quantized(fp32.graph, GraphIndex(qdq.graph)):
        if tensor not in moved:
            found[tensor] = TensorPair(tensor, quantized, scale, *makers.get(tensor, ("", "")))
    made = [value.name for value in fp32.graph.input] + [name for n in fp32.graph.node for name in n.output]
    return [found[name] for name in made if name in found]


def _read_quantized(
    graph: onnx.GraphProto, integers: GraphIndex
) -> Iterator[tuple[str, str, ActivationScale]]:
    """Fp32 tensor, uint8 tensor and scale, for every operand that reaches its operator through Q and DQ."""
    same = {node.name: node for node in integers.graph.node}
    for node in graph.node:
        twin = same.get(node.name)
        if not node.name or twin is None:
            continue
        # A convolution may have been given a bias that it had not.
        for tensor, given in zip(node.input, twin.input, strict=False):
            source = integers.producer.get(given)
            if source is None or source.op_type != "DequantizeLinear" or len(source.input) < 3:
                continue
            scale, zero_point = integers.array(source.input[1]), integers.array(source.input[2])
            constant = source.input[0] in integers.initializers
            if not constant and scale is not None and zero_point is not None and scale.size == 1:
                signed = zero_point.dtype == np.int8
                entry = ActivationScale(float(scale.item()), int(zero_point.item()), signed)
                yield tensor, _unpadded(source.input[0], integers), entry


def _unpadded(tensor: str, integers: GraphIndex) -> str:
    """The tensor before channels of zeros were added to it."""
    maker = integers.producer.get(tensor)
    return maker.input[0] if maker is not None and maker.op_type == "Pad" else tensor
