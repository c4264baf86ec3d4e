"""Where operators keep the scales and zero points of the tensors that they read and make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantize.graph import GraphIndex, attribute

# Operator → positions of (tensor, scale, zero point) among its inputs, and of (scale, zero point) of its
# output (onnx/docs/Operators.md and onnxruntime/docs/ContribOperators.md).
_BINARY = ((0, 1, 2), (3, 4, 5))
_UNARY = ((0, 1, 2),)
_INPUTS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "QLinearConv": _BINARY,
    "QLinearMatMul": _BINARY,
    "QGemm": _BINARY,
    "QLinearAdd": _BINARY,
    "QLinearMul": _BINARY,
    "QLinearGlobalAveragePool": _UNARY,
    "QLinearAveragePool": _UNARY,
    "QLinearSigmoid": _UNARY,
    "QLinearLeakyRelu": _UNARY,
    "QLinearSoftmax": _UNARY,
    "QLinearReduceMean": _UNARY,
    "DequantizeLinear": _UNARY,
    "MatMulIntegerToFloat": ((0, 2, 4), (1, 3, 5)),
}
_OUTPUTS: Mapping[str, tuple[int, int]] = {
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    "QGemm": (7, 8),
    "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearAveragePool": (3, 4),
    "QLinearSigmoid": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearSoftmax": (3, 4),
    "QLinearReduceMean": (3, 4),
    "QLinearConcat": (0, 1),
    "QuantizeLinear": (1, 2),
}


@dataclass(frozen=True)
class Quantities:
    """How integers of one tensor are read: `x = (q - zero_point) * scale`.

    Attributes:
        scale: one for the tensor, or one for each channel.
        zero_point: as many.
        dtype: of the integers.
        axis: of the channels; None where there is one scale.
        told_by: the operator that holds them.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dtype: str
    axis: int | None
    told_by: str

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest number that can be represented."""
        limits = np.iinfo(self.dtype)
        pairs = list(zip(self.scale, self.zero_point, strict=True))
        low = min((int(limits.min) - zero) * scale for scale, zero in pairs)
        return low, max((int(limits.max) - zero) * scale for scale, zero in pairs)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        low, high = self.range
        return {
            "dtype": self.dtype,
            "scale": list(self.scale),
            "zero_point": list(self.zero_point),
            "axis": self.axis,
            "range": [low, high],
            "told_by": self.told_by,
        }


def quantities_of(index: GraphIndex) -> dict[str, Quantities]:
    """Every quantized tensor of a graph → how its integers are read.

    The float tensor before a `QuantizeLinear` and behind a `DequantizeLinear` counts as well: its values are
    those of the integers. Scales that are not constant are left out.
    """
    found: dict[str, Quantities] = {}
    for node in index.graph.node:
        for names, scale, zero_point in _told(node):
            quantities = _read(index, node, scale, zero_point)
            if quantities is None:
                continue
            for name in names:
                found.setdefault(name, quantities)
    return found


def _told(node: onnx.NodeProto) -> Iterator[tuple[list[str], str, str]]:
    """Tensors, and the names of the scale and the zero point that a node gives for them."""
    inputs = list(node.input)

    def at(position: int) -> str:
        return inputs[position] if position < len(inputs) else ""

    for tensor, scale, zero_point in _INPUTS.get(node.op_type, ()):
        names = [at(tensor)] + ([node.output[0]] if node.op_type == "DequantizeLinear" else [])
        yield names, at(scale), at(zero_point)
    if node.op_type == "QLinearConcat":
        for start in range(2, len(inputs) - 2, 3):
            yield [at(start)], at(start + 1), at(start + 2)
    if node.op_type in _OUTPUTS:
        scale_at, zero_at = _OUTPUTS[node.op_type]
        names = [node.output[0]] + ([at(0)] if node.op_type == "QuantizeLinear" else [])
        yield names, at(scale_at), at(zero_at)


def _read(index: GraphIndex, node: onnx.NodeProto, scale: str, zero_point: str) -> Quantities | None:
    scales = index.array(scale)
    if scales is None:
        return None
    zeros = index.array(zero_point) if zero_point else np.zeros(scales.shape, _default_dtype(index, node))
    if zeros is None or not np.issubdtype(zeros.dtype, np.integer):
        return None
    count = max(scales.size, zeros.size)
    axis = None if count == 1 else _axis(node)
    return Quantities(
        tuple(float(value) for value in np.broadcast_to(scales.ravel(), count)),
        tuple(int(value) for value in np.broadcast_to(zeros.ravel(), count)),
        str(zeros.dtype),
        axis,
        node.name or node.output[0],
    )


def _axis(node: onnx.NodeProto) -> int:
    """Of the channels: an attribute of Q and DQ; the first of a convolution's weights, else the last."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return int(attribute(node, "axis", 1))
    return 0 if node.op_type == "QLinearConv" else -1


def _default_dtype(index: GraphIndex, node: onnx.NodeProto) -> str:
    """Without a zero point, a `DequantizeLinear` reads whatever its input holds; all else is uint8."""
    tensor = index.initializers.get(node.input[0])
    if node.op_type == "DequantizeLinear" and tensor is not None:
        return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return "uint8"
