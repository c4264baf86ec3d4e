"""Weights as matrices and inputs as vectors: their product is what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from quantize.graph import GraphIndex
from quantize.refine.geometry import Geometry, geometry_of
from quantize.session import make_session, run
from tests.quantize.net import Net


def single(op_type: str, data_shape: tuple[int, ...], weight_shape: tuple[int, ...], **more: Any) -> Any:
    """A model of one operator, its geometry and its float weights."""
    random = np.random.default_rng(1)
    weights = random.normal(size=weight_shape).astype(np.float32)
    net = Net(13)
    net.node(op_type, "image", net.constant(weights), output="scores", **more)
    model = net.model(shape=[1, *data_shape], output_shape=[None] * (len(data_shape) + 1))
    geometry = geometry_of(model.graph.node[0], GraphIndex(model.graph))
    assert geometry is not None
    return model, geometry, weights


def expected(model: onnx.ModelProto, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (result,) = run(make_session(model, threads=1), ["scores"], {"image": data[None]})
    return result[0]


CONVOLUTIONS = [
    ((4, 9, 7), (6, 4, 1, 1), {}),
    ((4, 9, 7), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((3, 9, 8), (5, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((4, 11, 11), (6, 2, 3, 3), {"group": 2, "dilations": [2, 2]}),
    ((5, 9, 9), (5, 1, 3, 3), {"group": 5, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((4, 10, 9), (4, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((4, 10, 9), (4, 4, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((4, 10, 9), (4, 4, 3, 3), {"auto_pad": "VALID"}),
    ((4, 12), (6, 4, 3), {"pads": [1, 1], "strides": [2]}),
]


@pytest.mark.parametrize(("data_shape", "weight_shape", "attributes"), CONVOLUTIONS)
def test_vectors_times_weights_are_the_convolution(
    data_shape: tuple[int, ...], weight_shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    model, geometry, weights = single("Conv", data_shape, weight_shape, **attributes)
    data = np.random.default_rng(2).normal(size=data_shape).astype(np.float32)
    result = expected(model, data).reshape(weight_shape[0], -1)
    assert geometry.positions(data_shape) == result.shape[1]
    chosen = np.arange(result.shape[1])[::2]
    vectors = geometry.vectors(data, chosen)
    made = np.einsum("pgk,gmk->gmp", vectors, geometry.pack(weights)).reshape(weight_shape[0], -1)
    # Sums of at most 36 products of unit normals in float32.
    np.testing.assert_allclose(made, result[:, chosen], atol=1e-4)


@pytest.mark.parametrize(("transposed", "op_type"), [(1, "Gemm"), (0, "Gemm"), (0, "MatMul")])
def test_vectors_times_weights_are_the_product(transposed: int, op_type: str) -> None:
    shape = (3, 7) if transposed else (7, 3)
    attributes = {"transB": transposed} if op_type == "Gemm" else {}
    model, geometry, weights = single(op_type, (7,), shape, **attributes)
    data = np.random.default_rng(2).normal(size=7).astype(np.float32)
    vectors = geometry.vectors(data, np.arange(geometry.positions(data.shape)))
    made = np.einsum("pgk,gmk->pgm", vectors, geometry.pack(weights)).reshape(-1)
    np.testing.assert_allclose(made, expected(model, data), atol=1e-5)
    assert (geometry.inputs, geometry.outputs, geometry.depth) == (7, 3, 7)


@pytest.mark.parametrize(("data_shape", "weight_shape", "attributes"), CONVOLUTIONS)
def test_unpacking_is_the_inverse(
    data_shape: tuple[int, ...], weight_shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    _, geometry, weights = single("Conv", data_shape, weight_shape, **attributes)
    np.testing.assert_array_equal(geometry.unpack(geometry.pack(weights)), weights)


def test_the_packed_order_is_row_column_channel() -> None:
    """The order in which integer kernels add products in pairs, probed on the hardware."""
    _, geometry, weights = single("Conv", (4, 5, 5), (2, 4, 3, 3), pads=[1, 1, 1, 1])
    packed = geometry.pack(weights)[0, 1].reshape(3, 3, 4)
    assert packed[2, 0, 3] == weights[1, 3, 2, 0]


def test_factors_are_spread_over_the_taps_of_their_channel() -> None:
    _, geometry, weights = single("Conv", (4, 5, 5), (2, 2, 3, 3), group=2)
    factors = np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    scaled = geometry.unpack(geometry.pack(weights) * geometry.spread_inputs(factors))
    np.testing.assert_allclose(scaled[0], weights[0] * factors[:2, None, None], rtol=1e-6)
    np.testing.assert_allclose(scaled[1], weights[1] * factors[2:, None, None], rtol=1e-6)


def test_volumes_have_no_geometry() -> None:
    net = Net(13)
    net.node("Conv", "image", net.weight(2, 3, 1, 1, 1), output="scores")
    graph = net.model(shape=[1, 3, 4, 4, 4], output_shape=[None] * 5).graph
    assert geometry_of(graph.node[0], GraphIndex(graph)) is None


def test_depthwise_is_one_channel_in_and_out() -> None:
    def made(inputs: int, outputs: int, group: int) -> Geometry:
        geometry = single("Conv", (inputs, 5, 5), (outputs, inputs // group, 3, 3), group=group)[1]
        assert isinstance(geometry, Geometry)
        return geometry

    assert made(4, 4, 4).depthwise
    assert not made(4, 8, 4).depthwise  # a multiplier: the kernel is that of dense convolutions
    assert not made(4, 4, 2).depthwise
    assert not made(1, 1, 1).depthwise
