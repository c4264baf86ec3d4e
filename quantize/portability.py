"""Proves that an integer model computes the same numbers on every CPU.

CPUs without VNNI multiply uint8 activations by int8 weights with `VPMADDUBSW`, which adds the products of two
neighbouring weights in int16 with saturation. With K in packed order (kh, kw, cin), per group and output
channel, the neighbours are weights 2i and 2i + 1: measured pair by pair on an emulated AVX2 CPU, by
`scripts/probe_saturation.py`, for convolutions of 1x1 and 3x3 with odd and even cin, grouped ones, and all
three matrix products. A pair (a, b) cannot saturate for any uint8 input if

    max(a, 0) + max(b, 0) <= 128  and  min(a, 0) + min(b, 0) >= -128,   because 255 · 128 = 32,640 <= 32,767.

Depthwise convolutions use another kernel, which adds in int32 (measured there as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from quantize.graph import GraphIndex, attribute
from quantize.metrics import Equality

# ONNX Runtime's session configuration for kernels that never saturate: int8 weights are turned into uint8
# ones, whose products it adds in int32. Slow, and exact on any CPU.
EXACT_KERNELS = {"session.x64quantprecision": "1"}

# How many evaluation images are run twice. Saturation that matters shows on nearly every image; the proof for
# all inputs is the bound on pairs.
COMPARED_IMAGES = 500

# 255 · 128 is the largest multiple of 255 · 64 that int16 holds.
_PAIR_LIMIT = 128

# Integer operator -> where it has its weights and the zero point of its activations.
_INTEGER_SPELLING = {
    "QLinearConv": (3, 2),
    "ConvInteger": (1, 2),
    "QGemm": (3, 2),
    "QLinearMatMul": (3, 2),
    "MatMulInteger": (1, 2),
    "MatMulIntegerToFloat": (1, 4),
}
_FLOAT_SPELLING = frozenset({"Conv", "Gemm", "MatMul"})
_CONVOLUTIONS = frozenset({"Conv", "QLinearConv", "ConvInteger"})
_TRANSPOSABLE = frozenset({"Gemm", "QGemm"})

# Wide enough for the sum of two weights.
Integers = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True)
class PairBound:
    """What the structural check found.

    Attributes:
        checked: dense operators with int8 weights.
        exempt: depthwise convolutions, whose kernel does not add in int16.
        unbounded: names of the dense operators with a pair that can saturate.
    """

    checked: int = 0
    exempt: int = 0
    unbounded: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no pair of any operator can saturate."""
        return not self.unbounded


@dataclass(frozen=True)
class Portability:
    """Both proofs for one artefact.

    Attributes:
        equality: its logits against those of kernels that never saturate, bit for bit.
        bound: of its weights.
    """

    equality: Equality = field(default_factory=Equality)
    bound: PairBound = field(default_factory=PairBound)

    @property
    def exact(self) -> bool:
        """Whether its logits are those of exact integer arithmetic on every CPU."""
        return self.equality.bit_equal and self.bound.holds


def check_pairs(model: onnx.ModelProto) -> PairBound:
    """Checks every dense weight of a model, in QDQ or QOperator format.

    Args:
        model: with its weights inside. Only products of uint8 activations and int8 weights can saturate: no
            kernel that takes int8 activations or uint8 weights does (measured, and read in MLAS).
    """
    index = GraphIndex(model.graph)
    checked, exempt = 0, 0
    unbounded: list[str] = []
    for node in model.graph.node:
        weights = _integer_weights(node, index)
        if weights is None:
            continue
        if _is_depthwise(node, weights):
            exempt += 1
            continue
        checked += 1
        if not all(pairs_are_bounded(packed) for packed in _packings(node, weights)):
            unbounded.append(node.name or node.output[0])
    return PairBound(checked, exempt, tuple(unbounded))


def pairs_are_bounded(packed: Integers) -> bool:
    """Whether no pair of [channels, K] weights can saturate; K in packed order, padded with zero if odd."""
    if packed.shape[1] % 2:
        packed = np.pad(packed, ((0, 0), (0, 1)))
    positive, negative = np.maximum(packed, 0), np.minimum(packed, 0)
    # Two strided operands: a sum over an axis of two takes ten times as long.
    highest = positive[:, ::2] + positive[:, 1::2]
    lowest = negative[:, ::2] + negative[:, 1::2]
    return bool(highest.max(initial=0) <= _PAIR_LIMIT and lowest.min(initial=0) >= -_PAIR_LIMIT)


def _integer_weights(node: onnx.NodeProto, index: GraphIndex) -> Integers | None:
    """The int8 weights of a node that multiplies uint8 activations with them, else None."""
    if node.op_type in _FLOAT_SPELLING:
        makers = [index.producer.get(name) for name in node.input[:2]]
        found = [maker.input for maker in makers if maker is not None and maker.op_type == "DequantizeLinear"]
        if len(found) < 2:
            return None
        name, zero_point = found[1][0], _at(found[0], 2)
    elif node.op_type in _INTEGER_SPELLING:
        name, zero_point = (_at(node.input, place) for place in _INTEGER_SPELLING[node.op_type])
    else:
        return None
    tensor = index.initializers.get(name)
    if tensor is None or tensor.data_type != onnx.TensorProto.INT8:
        return None
    if index.element_types.get(zero_point) == onnx.TensorProto.INT8:
        return None
    return onnx.numpy_helper.to_array(tensor).astype(np.int16)


def _at(inputs: Sequence[str], position: int) -> str:
    """An optional input; the empty name where it was left out."""
    return inputs[position] if len(inputs) > position else ""


def _is_depthwise(node: onnx.NodeProto, weights: Integers) -> bool:
    """One input and one output channel per group; a multiplier makes an ordinary product of it."""
    if node.op_type not in _CONVOLUTIONS:
        return False
    groups = int(attribute(node, "group", 1))
    return groups > 1 and weights.shape[1] == 1 and weights.shape[0] == groups


def _packings(node: onnx.NodeProto, weights: Integers) -> list[Integers]:
    """The weights as [channels, K] in each order in which a kernel may see their pairs.

    A kernel that pads an odd number of input channels to an even one would form its pairs within each
    position (kh, kw); none was found that does, but nothing forbids it, so both are asked for.
    """
    if node.op_type in _CONVOLUTIONS:
        positions = np.moveaxis(weights, 1, -1)  # [M, cin, kh, kw] -> [M, kh, kw, cin]
        flat = positions.reshape(len(weights), -1)
        odd = weights.shape[1] % 2 == 1 and flat.shape[1] > weights.shape[1]
        return [flat, positions.reshape(-1, weights.shape[1])] if odd else [flat]
    transposed = node.op_type in _TRANSPOSABLE and attribute(node, "transB", 0)
    rows = weights if transposed else np.swapaxes(weights, -1, -2)  # [..., K, N] -> [..., N, K]
    return [rows.reshape(-1, rows.shape[-1])]
