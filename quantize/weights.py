"""Rounds the weights and biases of weighted operators to integers.

Weights are int8, symmetric, with one scale per output channel (or one in all); biases are int32 with
`bias scale = activation scale · weight scale`, as integer convolutions accumulate them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantize.errors import EngineError
from quantize.graph import GraphIndex, attribute

FloatArray = np.ndarray[Any, np.dtype[np.float32]]
Int8Array = np.ndarray[Any, np.dtype[np.int8]]
Int32Array = np.ndarray[Any, np.dtype[np.int32]]

# Half of int32's range: the other half is for the products that are added to the bias. Each is below 2^15,
# so that 32,768 of them fit, more than any layer in use sums up.
_BIAS_LIMIT = float(1 << 30)

_TINY = float(np.finfo(np.float32).tiny)
# Half of what float32 holds: a product of two numbers rounded to it stays finite.
_LARGEST = float(np.finfo(np.float32).max) / 2


@dataclass(frozen=True, eq=False)
class Parameters:
    """The integers of one weighted operator.

    Attributes:
        weights: of the shape that the operator has them in.
        scale: of the weights; [channels], or a scalar.
        axis: output channel axis of the weights; None for a scalar scale.
        bias: [channels], or None.
        bias_scale: of the bias, same shape as `scale`.
    """

    weights: Int8Array
    scale: FloatArray
    axis: int | None
    bias: Int32Array | None
    bias_scale: FloatArray


class RoundedWeights:
    """Weights that were rounded before, for models of the same network that differ in their activations.

    Scales of weights hardly ever depend on those of activations (only where a bias would not fit), so that
    trials, and models with one operator more or less in fp32, share their integers. Holds one int8 copy of
    the weights for each kind of rounding that was asked for.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int | None], tuple[FloatArray, Int8Array]] = {}

    def integers(
        self, operator: str, weights: FloatArray, scale: FloatArray, limit: int, axis: int | None
    ) -> Int8Array:
        """What `rounded_weights` gives for the weights of an operator, which must always be the same."""
        key = (operator, limit, axis)
        known = self._known.get(key)
        if known is None or not np.array_equal(known[0], scale):
            known = self._known[key] = scale, rounded_weights(weights, scale, limit, axis)
        return known[1]


def quantize_parameters(
    node: onnx.NodeProto,
    index: GraphIndex,
    *,
    data_scale: float,
    limit: int,
    per_channel: bool,
    known: RoundedWeights | None = None,
) -> Parameters:
    """Rounds the weights and the bias of a Conv, Gemm or MatMul; Gemm's factors are multiplied in.

    Args:
        node: the operator.
        index: of its graph.
        data_scale: scale of the activation that it reads.
        limit: largest magnitude of a weight.
        per_channel: one scale per output channel.
        known: of this network; weights that were rounded before are not rounded again.

    Raises:
        EngineError: the weights or the bias are not constant.
    """
    weights, bias = float_parameters(node, index)
    channel_axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
    axis = channel_axis if per_channel else None
    least = least_scales(bias, data_scale, weights.shape[channel_axis])
    scale = weight_scales(weights, limit, axis, least if per_channel else least.max())
    known = RoundedWeights() if known is None else known
    integers = known.integers(node.name, weights, scale, limit, axis)
    bias_scale = np.float32(data_scale) * scale
    if bias is None:
        return Parameters(integers, scale, axis, None, bias_scale)
    return Parameters(integers, scale, axis, round_bias(bias, bias_scale), bias_scale)


def round_bias(bias: np.ndarray[Any, Any], bias_scale: FloatArray) -> Int32Array:
    """`int32 bias = round(bias / bias scale)`, within half of int32's range."""
    rounded = np.clip(np.rint(bias / bias_scale.astype(np.float64)), -_BIAS_LIMIT, _BIAS_LIMIT)
    return rounded.astype(np.int32)


def least_scales(bias: FloatArray | None, data_scale: float, channels: int) -> np.ndarray[Any, Any]:
    """The least scale of each output channel's weights for which its bias fits, float64 [channels].

    A bias scale that float32 cannot hold would make any bias zero or infinite; a bias that no such scale fits
    saturates.
    """
    least = np.full(channels, _TINY / data_scale)
    if bias is not None:
        least = np.maximum(least, np.abs(bias.astype(np.float64)) / data_scale / _BIAS_LIMIT)
    return np.minimum(least, _LARGEST / max(data_scale, 1.0))


def quantize_weights(
    weights: FloatArray, limit: int, axis: int | None, least_scale: Any = None
) -> tuple[Int8Array, FloatArray]:
    """Rounds weights to symmetric integers in [-limit, limit].

    Args:
        weights: any rank.
        limit: largest magnitude; 64 for 7 bits, 127 for 8.
        axis: output channel axis for one scale per channel, None for one scale in all.
        least_scale: lower bounds of the scales, same shape as they; keeps int32 biases in range.

    Returns:
        int8 weights of the same shape and float32 scales, [channels] or a scalar.
    """
    scale = weight_scales(weights, limit, axis, least_scale)
    return rounded_weights(weights, scale, limit, axis), scale


def weight_scales(weights: FloatArray, limit: int, axis: int | None, least_scale: Any = None) -> FloatArray:
    """The scales of `quantize_weights`."""
    axes = None if axis is None else tuple(other for other in range(weights.ndim) if other != axis)
    largest = np.asarray(np.abs(weights).max(axis=axes), dtype=np.float64)
    scale = np.asarray(largest / limit, dtype=np.float32)
    if least_scale is not None:
        scale = np.maximum(scale, np.asarray(least_scale, dtype=np.float32))
    # A channel of zeros has no scale of its own; any serves, because all its integers are zero.
    return np.asarray(np.where(scale >= _TINY, scale, 1.0), dtype=np.float32)


def rounded_weights(weights: FloatArray, scale: FloatArray, limit: int, axis: int | None) -> Int8Array:
    """The integers of `quantize_weights`."""
    spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    rounded = np.rint(weights.astype(np.float64) / spread)
    integers: Int8Array = np.clip(rounded, -limit, limit).astype(np.int8)
    return integers


def float_parameters(node: onnx.NodeProto, index: GraphIndex) -> tuple[FloatArray, FloatArray | None]:
    """Weights, and the bias as [channels] or None, in float32; Gemm's factors are multiplied in.

    Raises:
        EngineError: the weights or the bias are not constant.
    """
    weights = index.array(node.input[1])
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = index.array(node.input[2]) if has_bias else None
    if weights is None or (has_bias and bias is None):
        raise EngineError(f"operator {node.name!r} has weights or a bias that are not constant")
    if node.op_type == "Gemm":
        weights = weights * np.float32(attribute(node, "alpha", 1.0))
        if bias is not None:
            channels = weights.shape[0 if attribute(node, "transB", 0) else 1]
            bias = (bias * np.float32(attribute(node, "beta", 1.0))).reshape(-1)
            bias = np.broadcast_to(bias, (channels,))
    return weights.astype(np.float32), None if bias is None else bias.astype(np.float32)
