"""Numpy in the place of ONNX's operators, against onnx's evaluator and node tests and ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quantize.diagnose.equalization import _dequantized
from quantize.export import to_qoperator
from quantize.graph import GraphIndex
from quantize.refine.given import _along
from quantize.refine.tails import each_tail
from quantize.refine.weights import _steps
from quantize.scales import ActivationScale, activation_scale
from quantize.session import make_session, outputs, run
from quantize.weights import quantize_weights, round_bias
from tests.quantize.models import zoo_case
from tests.robustness.covering import EXAMPLES, arrays, covers, within
from tests.robustness.integer_kernels import qlinear_conv, qlinear_matmul

SCALE = st.floats(float(np.float32(1e-6)), float(np.float32(1e4)), width=32)

# The reference has the quantized operators from opset 19 on; for 8 bits they have not changed since 13.
OPSET = 21


def model_of(nodes: list[onnx.NodeProto], feeds: dict[str, Any], output: str) -> Any:
    kind = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info(k, kind(v.dtype), v.shape) for k, v in feeds.items()]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=output)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def by_runtime(nodes: list[onnx.NodeProto], feeds: dict[str, Any], output: str) -> Any:
    session = make_session(model_of(nodes, feeds, output), threads=1)
    return run(session, [output], {name: np.asarray(value) for name, value in feeds.items()})[0]


def by_reference(nodes: list[onnx.NodeProto], feeds: dict[str, Any], output: str) -> Any:
    return ReferenceEvaluator(model_of(nodes, feeds, output)).run(None, feeds)[0]


def as_quantized(values: Any, entry: ActivationScale) -> Any:
    """What the refinement takes activations for."""
    return (_steps(values, entry) * np.float32(entry.scale)).astype(np.float32)


def equal_but_for_ties(found: Any, wanted: Any, quotients: Any) -> bool:
    """Off by one only where the quotient lies within float32's rounding of a tie."""
    gap = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
    distance = np.abs(np.abs(quotients - np.floor(quotients)) - 0.5)
    return bool(np.all((gap == 0) | ((gap == 1) & (distance <= np.abs(quotients) * 2.0**-22))))


@covers(
    "quantize.refine.weights._steps",
    "quantize.scales.ActivationScale.rounded",
    does="QuantizeLinear and DequantizeLinear in numpy are those of onnx's reference and of ONNX Runtime",
)
@given(
    values=arrays(16, elements=within(1e6)),
    scale=SCALE,
    zero_point=st.integers(0, 255),
    signed=st.booleans(),
)
def test_quantizing_and_back(values: Any, scale: float, zero_point: int, signed: bool) -> None:
    entry = ActivationScale(scale, 0 if signed else zero_point, signed)
    feeds = {"x": values, "s": np.asarray(scale, np.float32), "z": np.asarray(entry.zero_point, entry.dtype)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    quotients = values.astype(np.float64) / np.float32(scale).astype(np.float64)
    for evaluate in (by_reference, by_runtime):
        if evaluate is by_reference and np.abs(quotients).max() > 2**30:
            continue  # it goes through int32 without saturating, which the specification does not ask for
        found = evaluate(nodes, feeds, "y")
        for emulated in (entry.rounded(values.astype(np.float64)), as_quantized(values, entry)):
            steps = [np.rint(one.astype(np.float64) / scale) for one in (found, emulated)]
            assert equal_but_for_ties(*steps, quotients)


@pytest.mark.robustness(
    "Numbers",
    "Values lie exactly between two steps, and beyond both ends of 8 bits",
    "numpy, onnx's reference and ONNX Runtime round half to even and saturate alike",
)
@pytest.mark.parametrize("signed", [False, True])
def test_ties_and_ends(signed: bool) -> None:
    entry = ActivationScale(0.25, 0 if signed else 3, signed)
    values = (np.arange(-600, 600, dtype=np.float32) / 2) * np.float32(0.25)  # every tie there is
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    feeds = {"x": values, "s": np.asarray(0.25, np.float32), "z": np.asarray(entry.zero_point, entry.dtype)}
    for found in (
        by_reference(nodes, feeds, "y"),
        by_runtime(nodes, feeds, "y"),
        as_quantized(values, entry),
    ):
        np.testing.assert_array_equal(found, entry.rounded(values.astype(np.float64)))


@pytest.mark.robustness(
    "Numbers",
    "Weights and biases rounded in numpy, one scale in all or one for each channel",
    "they are what QuantizeLinear of onnx's reference and of ONNX Runtime makes with the same scales",
    times=EXAMPLES,
)
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_quantized_as_onnx_does(axis: int | None, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(0, 1, (6, 4, 3, 3)).astype(np.float32)
    integers, scale = quantize_weights(weights, 127, axis)
    feeds = {"x": weights, "s": scale, "z": np.zeros(scale.shape, np.int8)}
    more = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **more)]
    spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(4)])
    for evaluate in (by_reference, by_runtime):
        assert equal_but_for_ties(integers, evaluate(nodes, feeds, "q"), weights.astype(np.float64) / spread)
    back = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "back", **more)]
    feeds = {"q": integers, "s": scale, "z": np.zeros(scale.shape, np.int8)}
    ours = integers.astype(np.float32) * _along(scale, integers, back[0])
    for evaluate in (by_reference, by_runtime):
        np.testing.assert_array_equal(evaluate(back, feeds, "y"), ours)
    if axis == 0:
        constants = [numpy_helper.from_array(value, name) for name, value in feeds.items()]
        index = GraphIndex(helper.make_graph(back, "g", [], [], constants))
        found = _dequantized(index, "y")
        assert found is not None
        np.testing.assert_allclose(found, ours, rtol=1e-7)
    bias = np.random.default_rng(seed).normal(0, 1, 6).astype(np.float32)
    bias_scale = np.broadcast_to(np.float32(0.02) * (scale if axis == 0 else scale.reshape(-1)[:1]), 6)
    rounded = round_bias(bias, bias_scale)
    node = [helper.make_node("DequantizeLinear", ["q", "s"], ["y"], axis=0)]
    feeds = {"q": rounded, "s": np.ascontiguousarray(bias_scale)}
    for evaluate in (by_reference, by_runtime):
        assert np.all(np.abs(evaluate(node, feeds, "y") - bias) <= bias_scale * 0.5001)


@pytest.mark.robustness(
    "Numbers",
    "QLinearConv of random 8-bit pictures: padded, strided, grouped, depthwise, one scale or many",
    "the integer kernels in numpy give the bytes of ONNX Runtime, and of onnx's reference to one step",
)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    ("group", "out", "kernel", "stride", "pad"),
    [(1, 6, 3, 1, 1), (1, 5, 1, 1, 0), (2, 4, 3, 2, 1), (4, 4, 3, 1, 1), (1, 3, 3, 2, 0)],
)
def test_integer_convolutions(
    *, group: int, out: int, kernel: int, stride: int, pad: int, per_channel: bool
) -> None:
    random = np.random.default_rng(group * 100 + out * 10 + kernel)
    x = random.integers(0, 256, (2, 4, 7, 6)).astype(np.uint8)
    w = random.integers(-64, 65, (out, 4 // group, kernel, kernel)).astype(np.int8)
    w_scale = random.uniform(0.001, 0.01, out if per_channel else ()).astype(np.float32)
    bias = random.integers(-3000, 3000, out).astype(np.int32)
    feeds = {
        **{"x": x, "xs": np.float32(0.02), "xz": np.uint8(119), "w": w, "ws": np.asarray(w_scale)},
        **{
            "wz": np.zeros(np.shape(w_scale), np.int8),
            "ys": np.float32(0.05),
            "yz": np.uint8(100),
            "b": bias,
        },
    }
    attributes = {"pads": [pad] * 4, "strides": [stride] * 2, "group": group, "kernel_shape": [kernel] * 2}
    nodes = [helper.make_node("QLinearConv", list(feeds), ["y"], **attributes)]
    ours = qlinear_conv(*feeds.values(), pads=(pad,) * 4, strides=(stride,) * 2, group=group)
    constants = [numpy_helper.from_array(feeds[k], k) for k in ("w", "wz", "ws", "b", "xs", "xz", "ys", "yz")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    (found,) = run(make_session(model, threads=1), ["y"], {"x": x})
    np.testing.assert_array_equal(found, ours)
    assert np.unique(ours).size > 15, "otherwise this shows nothing"
    (reference,) = ReferenceEvaluator(model).run(None, {"x": x})
    gap = np.abs(reference.astype(int) - ours)
    assert gap.max() <= 1 and (gap > 0).mean() < 0.01


@pytest.mark.robustness(
    "Numbers",
    "QLinearMatMul of random bytes with zero points",
    "the integer kernels in numpy give the bytes of ONNX Runtime, and of onnx's reference to one step",
)
@pytest.mark.parametrize("seed", range(6))
def test_integer_products(seed: int) -> None:
    random = np.random.default_rng(seed)
    a = random.integers(0, 256, (5, 9)).astype(np.uint8)
    b = random.integers(-64, 65, (9, 4)).astype(np.int8)
    feeds = {
        **{"a": a, "as": np.float32(0.03), "az": np.uint8(7 * seed), "b": b, "bs": np.float32(0.01)},
        **{"bz": np.int8(0), "ys": np.float32(0.2), "yz": np.uint8(128)},
    }
    nodes = [helper.make_node("QLinearMatMul", list(feeds), ["y"])]
    ours = qlinear_matmul(*feeds.values())
    np.testing.assert_array_equal(by_runtime(nodes, feeds, "y"), ours)
    assert np.abs(by_reference(nodes, feeds, "y").astype(int) - ours).max() <= 1


@cache
def backend_cases() -> dict[str, Any]:
    """onnx's own node tests of the quantized operators: name -> model and data."""
    # `collect_testcases` runs the thousands of all operators; importing a module adds those of one.
    from onnx.backend.test.case import node

    wanted = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul")
    for op_type in wanted:
        importlib.import_module(f"{node.__name__}.{op_type.lower()}")
    return {case.name: case for case in node._NodeTestCases if case.model.graph.node[0].op_type in wanted}


EIGHT_BITS = (np.dtype(np.uint8), np.dtype(np.int8))


def ours_of(node: onnx.NodeProto, inputs: list[Any]) -> Any:
    """What our arithmetic makes of a node test; None where it is of types that we never write."""
    kinds = {one.dtype for one in inputs}
    if not kinds <= {*EIGHT_BITS, np.dtype(np.float32), np.dtype(np.int32)}:
        return None
    makers: dict[str, Callable[..., Any]] = {
        "QuantizeLinear": _quantized,
        "DequantizeLinear": _dequantized_like_given,
        "QLinearConv": lambda node, *values: qlinear_conv(*values),
        "QLinearMatMul": _matmul,
    }
    return makers[node.op_type](node, *inputs)


def _matmul(_: Any, a: Any, *rest: Any) -> Any:
    a_scale, a_zero, b, *others = rest
    how = [np.asarray(one).reshape(()) for one in (a_scale, a_zero)]
    more = [np.asarray(one).reshape(()) for one in others]
    left, right = a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:])
    made = [qlinear_matmul(one, *how, other, *more) for one, other in zip(left, right, strict=True)]
    return np.stack(made).reshape(*a.shape[:-1], b.shape[-1])


def _quantized(node: onnx.NodeProto, x: Any, scale: Any, zero: Any = None) -> Any:
    if any(entry.name in ("block_size", "output_dtype") for entry in node.attribute):
        return None
    zero = np.zeros(scale.shape, np.uint8) if zero is None else zero
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
    if scale.ndim == 0:
        planes, scales, zeros = [x], scale.reshape(1), zero.reshape(1)
    else:
        planes, scales, zeros = np.moveaxis(x, axis, 0), scale, zero
    made = []
    for plane, s, z in zip(planes, scales, zeros, strict=True):
        entry = ActivationScale(float(s), int(z), signed=zero.dtype == np.int8)
        rounded = entry.rounded(plane.astype(np.float64)) / float(s)
        made.append((np.rint(rounded) + int(z)).astype(zero.dtype))
    return made[0] if scale.ndim == 0 else np.moveaxis(np.stack(made), 0, axis)


def _dequantized_like_given(node: onnx.NodeProto, q: Any, scale: Any, zero: Any = None) -> Any:
    if any(entry.name == "block_size" for entry in node.attribute):
        return None
    centred = q.astype(np.float32)
    if zero is not None:
        centred = centred - _along(zero, q, node)
    return centred * _along(scale, q, node)


@pytest.mark.robustness(
    "Numbers",
    "onnx's own backend node tests of QuantizeLinear, DequantizeLinear, QLinearConv and QLinearMatMul",
    "our arithmetic gives the expected outputs: one scale or one per axis, zero points, ties, saturation",
)
def test_the_node_tests_of_onnx() -> None:
    tried = []
    for name, case in sorted(backend_cases().items()):
        (node,) = case.model.graph.node
        for inputs, wanted in case.data_sets:
            arrays_of = [np.asarray(one) for one in inputs]
            found = ours_of(node, arrays_of)
            if found is None:
                continue
            tried.append((name, node.op_type))
            np.testing.assert_array_equal(found, np.asarray(wanted[0]), err_msg=name)
    kinds = {op_type for _, op_type in tried}
    assert kinds == {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"}
    names = {name for name, _ in tried}
    assert {"test_quantizelinear", "test_quantizelinear_axis", "test_dequantizelinear"} <= names
    assert {"test_dequantizelinear_axis", "test_qlinearconv"} <= names and len(names) >= 8, names


@pytest.mark.robustness(
    "Numbers",
    "Models as they are written, in QDQ and QOperator form, given to onnx's reference evaluator",
    "scores agree with ONNX Runtime's but for the rounding of the last layers",
)
@pytest.mark.parametrize("name", ["inverted_residual", "fire_module"])
def test_written_models_mean_the_same_to_the_reference(name: str) -> None:
    case = zoo_case(name, OPSET)
    qdq = case.qdq()
    images = case.images[:3]
    (wanted,) = ReferenceEvaluator(qdq).run(None, {"image": images})
    here = outputs(make_session(qdq, threads=1), images)
    unoptimized = outputs(make_session(qdq, threads=1, optimization="none"), images)
    fp32 = outputs(make_session(case.prepared, threads=1), images)
    size = np.abs(here - fp32).max()
    # One step here or there, where float and integer requantization round apart; a wrong axis, zero point or
    # rounding would move scores by as much as quantization itself does.
    assert np.abs(unoptimized - wanted.reshape(here.shape)).max() < 0.5 * size
    assert np.abs(here - wanted.reshape(here.shape)).max() < 0.5 * size
    both = outputs(make_session(to_qoperator(qdq), threads=1), images)
    np.testing.assert_array_equal(both, here)


@covers(
    "quantize.refine.tails.Tail.scores",
    does="a tensor rounded inside the network gives the scores that numpy's rounding of it gives",
)
@given(values=arrays(1, 3, 4, 4, elements=within(100.0)), high=st.floats(0.5, 200.0, width=32))
def test_tails_round_as_numpy_does(values: Any, high: float) -> None:
    nodes = [
        helper.make_node("Identity", ["image"], ["t"], "copy"),
        helper.make_node("Relu", ["t"], ["scores"], "relu"),
    ]
    model = model_of(nodes, {"image": values}, "scores")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("scores", TensorProto.FLOAT, None))
    entry = activation_scale(-high, high)
    found = each_tail(model, ["t"], [values], lambda tail: tail.scores(entry), threads=1)["t"]
    wanted = np.maximum(as_quantized(values, entry), 0).reshape(1, -1)
    steps = [np.rint(one / entry.scale) for one in (found, wanted[:, : found.shape[1]])]
    assert np.abs(steps[0] - steps[1]).max() <= 1
