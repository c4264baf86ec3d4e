"""Tells from the integer weights what each channel of an activation was multiplied by, whoever equalized it.

Equalization multiplies channel c of a tensor by k_c: the convolution that makes it has its weights of output
channel c multiplied by k_c, and what reads it has those of input channel c divided by it. So k_c is the slope
of the dequantized weights over the fp32 ones, once the factors of the convolution's own input are taken out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from quantize.diagnose.signal import Factors, Floats
from quantize.graph import GraphIndex
from quantize.operators import Inventory

# Rounding moves the slope of a channel by a few per mille; equalization is of no use below this.
_LEAST_CHANGE = 0.05


def channel_factors(fp32: onnx.ModelProto, inventory: Inventory, qdq: onnx.ModelProto) -> Factors:
    """The tensors that were equalized, with the factors of their channels.

    Args:
        fp32: the prepared model.
        inventory: its operators.
        qdq: the int8 model in its QDQ format.
    """
    before, after = GraphIndex(fp32.graph), GraphIndex(qdq.graph)
    own = {node.name: node for node in fp32.graph.node}
    twins = {node.name: node for node in qdq.graph.node}
    found: dict[str, Floats] = {}
    for operator in inventory.quantizable:  # in the order of the graph
        if operator.op_type != "Conv" or operator.name not in twins:
            continue
        weights = before.array(own[operator.name].input[1])
        integer = _dequantized(after, twins[operator.name].input[1])
        if weights is None or integer is None:
            continue
        integer = integer[:, : weights.shape[1]]  # without channels of zeros that were added
        if weights.shape != integer.shape:
            continue
        slopes = _slopes(_without(weights, found.get(operator.inputs[0])), integer)
        if np.abs(slopes - 1.0).max() > _LEAST_CHANGE:
            found[operator.output] = slopes
    return found


def _dequantized(index: GraphIndex, tensor: str) -> np.ndarray[Any, Any] | None:
    """`q · scale` of constant weights, whose zero point is 0; None if they are no integers."""
    node = index.producer.get(tensor)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    integers, scale = index.array(node.input[0]), index.array(node.input[1])
    if integers is None or scale is None:
        return None
    weights: np.ndarray[Any, Any] = integers * scale.reshape(-1, *[1] * (integers.ndim - 1)).astype(
        np.float64
    )
    return weights


def _without(weights: np.ndarray[Any, Any], factors: Floats | None) -> np.ndarray[Any, Any]:
    """Weights [out, in / groups, ...] divided by the factors of their input channels."""
    if factors is None:
        return weights
    per_group = weights.shape[1]
    groups = len(factors) // per_group
    inputs = factors.reshape(groups, per_group)[np.arange(len(weights)) * groups // len(weights)]
    divided: np.ndarray[Any, Any] = weights / inputs.reshape(*inputs.shape, *[1] * (weights.ndim - 2))
    return divided


def _slopes(weights: np.ndarray[Any, Any], integer: np.ndarray[Any, Any]) -> Floats:
    """Least squares per output channel; 1 where the fp32 weights are all zero."""
    x, y = (array.reshape(len(array), -1).astype(np.float64) for array in (weights, integer))
    power = np.square(x).sum(axis=1)
    slopes = np.divide((x * y).sum(axis=1), power, out=np.ones(len(x)), where=power > 0)
    return slopes.astype(np.float32)
