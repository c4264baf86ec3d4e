"""Weights and biases become integers that fit, and mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from quantize import weights as module
from quantize.errors import EngineError
from quantize.graph import GraphIndex, attribute
from quantize.weights import RoundedWeights, quantize_parameters, quantize_weights, rounded_weights
from tests.quantize.models import Net, zoo_case

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1e4, 1e4, width=32),
)


@settings(max_examples=60, deadline=None)
@given(weights=WEIGHTS, limit=st.sampled_from([64, 127]), axis=st.sampled_from([None, 0, 1]))
def test_rounding_is_off_by_half_a_step_at_most(weights: Any, limit: int, axis: int | None) -> None:
    integers, scale = quantize_weights(weights, limit, axis)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    spread = scale.astype(np.float64).reshape(shape) if axis is not None else scale.astype(np.float64)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= limit
    # Beyond half a step only by the rounding of the scale itself to float32.
    error = np.abs(integers * spread - weights)
    assert np.all(
        (error <= spread * (0.5 + limit * 2**-23)) | (np.abs(weights) < np.finfo(np.float32).tiny * 999)
    )


def test_weights_at_the_edge_saturate_and_do_not_wrap() -> None:
    """The engine's own writer casts without clipping, where 128 becomes -128."""
    weights = np.array([[1.0, -1.0, 0.999]], dtype=np.float32)
    integers, _ = quantize_weights(weights, 127, 0, np.array([1 / 128], dtype=np.float32))
    assert integers.tolist() == [[127, -127, 127]]
    integers, _ = quantize_weights(weights, 127, None)
    assert integers.tolist() == [[127, -127, 127]]


def test_a_channel_of_zeros_has_a_scale() -> None:
    integers, scale = quantize_weights(np.array([[0.0, 0.0], [1.0, 2.0]], dtype=np.float32), 64, 0)
    assert integers.tolist() == [[0, 0], [32, 64]]
    assert scale.tolist() == [1.0, 2 / 64]


def conv_node(weights: Any, bias: Any) -> tuple[onnx.NodeProto, GraphIndex]:
    net = Net()
    node = net.node("Conv", "image", net.constant(weights), net.constant(bias))
    net.node("Identity", node, output="scores")
    return net.nodes[0], GraphIndex(net.model().graph)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("data_scale", [1e-30, 0.02, 1e5])
def test_biases_of_any_size_fit_int32(per_channel: bool, data_scale: float) -> None:
    weights = np.zeros((4, 1, 1, 1))
    weights[1:, 0, 0, 0] = [1e-9, 1.0, 100.0]
    bias = np.array([0.3, 1e6, -2.0, 0.0])
    node, index = conv_node(weights, bias)
    found = quantize_parameters(node, index, data_scale=data_scale, limit=64, per_channel=per_channel)
    assert found.bias is not None
    assert np.all(np.abs(found.bias.astype(np.int64)) <= 1 << 30)
    assert np.all(np.isfinite(found.bias_scale)) and np.all(found.bias_scale > 0)
    # Exact but for half a step of the bias, which is 1/64 of the smallest product where there are weights.
    error = np.abs(found.bias * found.bias_scale.astype(np.float64) - bias.astype(np.float32))
    assert np.all(error <= found.bias_scale / 2 + 1e-6 * np.abs(bias))


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_that_were_rounded_before_are_those_that_would_be_rounded_now(
    per_channel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded: list[int] = []

    def counted(*given: Any) -> Any:
        rounded.append(1)
        return rounded_weights(*given)

    monkeypatch.setattr(module, "rounded_weights", counted)
    weights = np.random.default_rng(5).normal(size=(4, 3, 3, 3)).astype(np.float32)
    node, index = conv_node(weights, np.array([0.3, 1e3, -2.0, 0.0]))
    known, times = RoundedWeights(), []
    # With the third, the largest bias fits int32 only if its weights have a larger scale.
    for data_scale in (0.02, 0.05, 1e-6, 0.02):
        options: dict[str, Any] = {"data_scale": data_scale, "limit": 64, "per_channel": per_channel}
        before = len(rounded)
        found = quantize_parameters(node, index, **options, known=known)
        times.append(len(rounded) - before)
        fresh = quantize_parameters(node, index, **options)
        assert_array_equal(found.weights, fresh.weights)
        assert_array_equal(found.scale, fresh.scale)
        assert_array_equal(found.bias, fresh.bias)
    assert times == [1, 0, 1, 1]
    other = quantize_parameters(node, index, data_scale=0.02, limit=127, per_channel=per_channel, known=known)
    assert np.abs(other.weights).max() == 127


def test_factors_of_a_gemm_end_up_in_its_integers() -> None:
    net = Net()
    node = net.node("Gemm", "x", net.weight(6, 8), net.weight(1, 8), output="scores", alpha=0.5, beta=2.0)
    index = GraphIndex(net.model().graph)
    found = quantize_parameters(index.producer[node], index, data_scale=0.01, limit=64, per_channel=True)
    weights, bias = (index.array(name) for name in net.nodes[0].input[1:])
    assert weights is not None and bias is not None and found.bias is not None
    np.testing.assert_allclose(found.weights * found.scale, weights * 0.5, atol=found.scale.max() / 2 * 1.001)
    np.testing.assert_allclose(found.bias * found.bias_scale, bias[0] * 2, atol=found.bias_scale.max())
    gemms = [n for n in zoo_case("gemm_varieties").qdq().graph.node if n.op_type == "Gemm"]
    assert all(attribute(node, "alpha", 1.0) == 1.0 == attribute(node, "beta", 1.0) for node in gemms)


def test_parameters_that_are_computed_are_refused() -> None:
    net = Net()
    net.node("MatMul", "image", net.node("Identity", "image"), output="scores")
    index = GraphIndex(net.model().graph)
    with pytest.raises(EngineError, match="not constant"):
        quantize_parameters(net.nodes[-1], index, data_scale=1.0, limit=64, per_channel=True)
