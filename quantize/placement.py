"""Decides which tensors of a graph get a Q/DQ pair, given which operators become integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from quantize.graph import GraphIndex
from quantize.operators import Inventory, Operator
from quantize.target import MOVEMENT_OPERATORS

# ONNX Runtime makes integers of these when they stand between a DequantizeLinear and a QuantizeLinear,
# although they were left in fp32, and quantizes their constant weights for it (measured on MobileNetV2: KL
# 0.17 instead of 0.02).
_SELF_QUANTIZED = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Add",
        "Mul",
        "Concat",
        "GlobalAveragePool",
        "AveragePool",
        "Sigmoid",
        "LeakyRelu",
        "Softmax",
        "Where",
    }
)

# Of these also where no QuantizeLinear follows, if both operands are dequantized.
_PRODUCTS = frozenset({"MatMul", "Gemm"})

# It moves Q and DQ through these.
LOOKED_THROUGH = MOVEMENT_OPERATORS | {"Slice", "Gather", "Expand", "Resize", "Tile", "Split"}

_ACTIVATIONS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Placement:
    """Where the Q/DQ pairs go.

    Attributes:
        quantized: tensors with a pair.
        integer_made: the quantized tensors that an integer kernel makes; their float value never exists.
        movement: names of data-movement operators that work on 8-bit data.
        tied: quantized tensor -> the tensor whose scale and zero point it shares.
        barriers: quantized tensors made by a float operator that reads dequantized data, and that ONNX
            Runtime would make an integer of.
        products: names of float matrix products of two dequantized tensors, of which it would do so without a
            QuantizeLinear behind them.
    """

    quantized: frozenset[str]
    integer_made: frozenset[str]
    movement: frozenset[str]
    tied: Mapping[str, str]
    barriers: frozenset[str]
    products: frozenset[str]


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
    if not inventory.float_scores:
        wanted.update(value.name for value in graph.output)
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
    barriers, products = _self_quantized(graph, chosen, frozen, made_frozen)
    return Placement(frozen, made_frozen, frozenset(moving), tied, barriers, products)


def _self_quantized(
    graph: onnx.GraphProto, chosen: Mapping[str, Operator], quantized: frozenset[str], made: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """The results and the names of the float operators that ONNX Runtime would make integers of.

    It pushes DequantizeLinear down and QuantizeLinear up through data movement, and drops a Relu or Clip
    before a QuantizeLinear, so these are looked through.
    """
    index = GraphIndex(graph)
    dequantized = set(made)
    results: set[str] = set()
    products: set[str] = set()
    for node in graph.node:
        if node.op_type in LOOKED_THROUGH and not dequantized.isdisjoint(node.input[:1]):
            dequantized.update(node.output)
        if node.op_type not in _SELF_QUANTIZED or node.name in chosen or dequantized.isdisjoint(node.input):
            continue
        if node.op_type in _PRODUCTS and dequantized.issuperset(node.input[:2]):
            products.add(node.name)
        results.update(_quantized_behind(node.output[0], index, quantized))
    return frozenset(results - made), frozenset(products)


def _quantized_behind(tensor: str, index: GraphIndex, quantized: frozenset[str]) -> set[str]:
    """The quantized tensors that follow from `tensor` without arithmetic, itself included."""
    found, pending = set(), [tensor]
    while pending:
        name = pending.pop()
        if name in quantized:
            found.add(name)
        for reader in index.readers(name):
            if reader.op_type in LOOKED_THROUGH | _ACTIVATIONS and name == reader.input[0]:
                pending.extend(reader.output)
    return found
