"""Decides which tensors of a graph get a Q/DQ pair, given which operators become integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from quantize.graph import GraphIndex
from quantize.operators import Inventory, Operator

# ONNX Runtime makes integers of these when they stand between a DequantizeLinear and a QuantizeLinear, of
# constant float weights too (measured: KL 0.17 instead of 0.02 on MobileNetV2), although they were left in fp32.
_SELF_QUANTIZED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat"}) | {
    "GlobalAveragePool",
    "AveragePool",
    "Sigmoid",
    "LeakyRelu",
    "Softmax",
}

_ACTIVATIONS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Placement:
    """Where the Q/DQ pairs go.

    Attributes:
        quantized: tensors with a pair.
        integer_made: the quantized tensors that an integer kernel makes; their float value never exists.
        movement: names of data-movement operators that work on 8-bit data.
        tied: quantized tensor -> the tensor whose scale and zero point it shares.
        barriers: quantized tensors made by a float operator that reads dequantized data, and that ONNX Runtime
            would make an integer of.
    """

    quantized: frozenset[str]
    integer_made: frozenset[str]
    movement: frozenset[str]
    tied: Mapping[str, str]
    barriers: frozenset[str]


def place(graph: onnx.GraphProto, inventory: Inventory, chosen: Mapping[str, Operator]) -> Placement:
    """Places the pairs.

    An integer operator needs all its activation inputs quantized, and its output unless it returns floats.
    A data-movement operator follows when it stands between an integer result and an integer reader: its
    output then shares its input's scale, because it makes no new values.

    Args:
        graph: a prepared graph, sorted topologically.
        inventory: its operators.
        chosen: the operators that become integers, by name.
    """
    made = {operator.output for operator in chosen.values() if not operator.float_output}
    quantized = made | {name for operator in chosen.values() for name in operator.inputs}
    movement = [node for node in graph.node if node.name in set(inventory.movement)]
    wanted = set(quantized)
    for node in reversed(movement):
        if node.output[0] in wanted:
            wanted.add(node.input[0])
    tied: dict[str, str] = {}
    moving: set[str] = set()
    for node in movement:
        source, result = node.input[0], node.output[0]
        if result in wanted and source in quantized:
            moving.add(node.name)
            quantized.add(result)
            made.add(result)
            tied[result] = tied.get(source, source)
    frozen, made_frozen = frozenset(quantized), frozenset(made)
    return Placement(frozen, made_frozen, frozenset(moving), tied, _barriers(graph, chosen, frozen, made_frozen))


def _barriers(
    graph: onnx.GraphProto, chosen: Mapping[str, Operator], quantized: frozenset[str], made: frozenset[str]
) -> frozenset[str]:
    """The quantized results of float operators whose data comes out of a DequantizeLinear."""
    index = GraphIndex(graph)
    found: set[str] = set()
    for node in graph.node:
        if node.op_type not in _SELF_QUANTIZED or node.name in chosen or made.isdisjoint(node.input):
            continue
        pending = [node.output[0]]
        while pending:
            tensor = pending.pop()
            if tensor in quantized:
                found.add(tensor)
            pending.extend(n.output[0] for n in index.readers(tensor) if n.op_type in _ACTIVATIONS)
    return frozenset(found)
