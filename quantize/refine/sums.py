"""What an integer operator makes on average, out of sums of the integers that it reads, exactly.

The mean over the output positions of a convolution needs no convolution: a weight multiplies each value that
its tap meets, so that the sum of those values times the weight is what it adds to all positions together.
Sums of 8-bit integers are exact whatever the order in which they are added up, and so are their products with
the weights in float64: the means are the same on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from quantize.graph import GraphIndex
from quantize.refine.geometry import Geometry
from quantize.session import make_session, run

Integers = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

# int8 is summed up as uint8: the same bits with the highest one flipped are 128 more.
_SIGN = np.uint8(128)


@dataclass(frozen=True)
class IntegerOperator:
    """A weighted operator of a QDQ graph.

    Attributes:
        geometry: how it multiplies.
        data: the name of the integers that it reads.
        data_scale, zero_point: of them.
        weights: integers [groups, M, K], in packed order.
        scale: of the weights, one for each of all output channels or a scalar.
        bias: real numbers, one for each output channel; zero without.
    """

    geometry: Geometry
    data: str
    data_scale: float
    zero_point: int
    weights: Integers
    scale: Doubles
    bias: Doubles

    def means(self, sums: Integers, positions: int) -> Doubles:
        """The means over output positions of what the operator makes, before any activation.

        `mean_o = s_x s_o / positions · Σ_k w_ok · sum_k + b_o`, [images, channels].

        Args:
            sums: for each image and input channel, of the values without zero point that each tap meets:
                [images, channels, taps].
            positions: output positions.
        """
        images, groups = len(sums), self.geometry.groups
        by_group = sums.reshape(images, groups, -1, sums.shape[-1]).transpose(1, 3, 2, 0)
        vectors = by_group.reshape(groups, self.geometry.depth, images).astype(np.float64)
        products = self.weights.astype(np.float64) @ vectors  # of integers, below 2^53
        by_image = products.reshape(-1, images).T
        means: Doubles = by_image * (self.data_scale * self.scale / positions) + self.bias
        return means


def integer_operator(node: onnx.NodeProto, geometry: Geometry, index: GraphIndex) -> IntegerOperator:
    """Looks up what a Conv, Gemm or MatMul of a QDQ graph multiplies; its constants may change afterwards.

    Args:
        node: whose data, weights and (if they are not float) bias come out of DequantizeLinear.
        geometry: of the operator.
        index: of the graph.
    """
    data, data_scale, zero_point = index.producer[node.input[0]].input
    weights, scale = index.producer[node.input[1]].input[:2]
    bias = np.zeros(1)
    if len(node.input) > 2 and node.input[2]:
        bias = _real(node.input[2], index)
    return IntegerOperator(
        geometry=geometry,
        data=data,
        data_scale=float(_value(data_scale, index)),
        zero_point=int(_value(zero_point, index)),
        weights=geometry.pack(_value(weights, index)),
        scale=_value(scale, index).astype(np.float64),
        bias=bias,
    )


class TapSums:
    """Sums up integers; for many threads."""

    def __init__(self) -> None:
        self._session = _product_session()

    def __call__(self, values: Integers, taken: npt.NDArray[np.int8], operator: IntegerOperator) -> Integers:
        """For each channel, the sums of the values that each tap meets, without their zero point.

        Args:
            values: 8-bit integers that one image makes the operator read, without the batch axis.
            taken: from `Geometry.taken`.
            operator: who reads them.

        Returns:
            int64 [channels, taps].
        """
        signed = values.dtype == np.int8
        unsigned = values.view(np.uint8) ^ _SIGN if signed else values
        by_channel = operator.geometry.by_channel(unsigned)
        feeds = {"values": by_channel, "taken": taken}
        (sums,) = run(self._session, ["sums"], feeds, model="int8 model")
        zero = operator.zero_point + int(_SIGN) * signed
        result: Integers = sums.astype(np.int64) - zero * taken.sum(axis=0, dtype=np.int64)
        return result


def _product_session() -> ort.InferenceSession:
    """uint8 [channels, values] times int8 [values, taps], to int32.

    255 times 1 is far from where kernels that add up pairs in int16 saturate, and 2^31 holds the sum of 8
    million of them.
    """
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["values", "taken"], ["sums"])],
        "sums",
        [
            helper.make_tensor_value_info("values", TensorProto.UINT8, ["channels", "positions"]),
            helper.make_tensor_value_info("taken", TensorProto.INT8, ["positions", "taps"]),
        ],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, ["channels", "taps"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return make_session(model, threads=1)


def _value(name: str, index: GraphIndex) -> npt.NDArray[Any]:
    return numpy_helper.to_array(index.initializers[name])


def _real(name: str, index: GraphIndex) -> Doubles:
    """A float constant, or one that is dequantized without a zero point, in float64."""
    if name in index.initializers:
        return _value(name, index).astype(np.float64)
    integers, scale = index.producer[name].input[:2]
    result: Doubles = _value(integers, index).astype(np.float64) * _value(scale, index).astype(np.float64)
    return result
