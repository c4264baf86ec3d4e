"""Seeds of the model target: each has something that the readers treat in a way of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FLOAT = TensorProto.FLOAT


def _weights(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def _model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    *,
    opset: int = 13,
    listed: bool = False,
    shape: tuple[int | str, ...] = ("n", 3, 4, 4),
    output: str = "scores",
) -> bytes:
    inputs = [helper.make_tensor_value_info("image", _FLOAT, shape)]
    if listed:  # as IR versions below 4 have it
        inputs += [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in weights]
    outputs = [helper.make_tensor_value_info(output, _FLOAT, ("n", 2))]
    graph = helper.make_graph(nodes, "seed", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _classifier() -> bytes:
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "low", "high"], ["r"], "clip"),
        helper.make_node("Conv", ["r", "d"], ["e"], "depthwise", group=4),
        helper.make_node("Add", ["e", "r"], ["s"], "add"),
        helper.make_node("GlobalAveragePool", ["s"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v", "a"], ["logits"], "gemm", transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=1),
    ]
    weights = [_weights("w", 4, 3, 3, 3), _weights("b", 4), _weights("d", 4, 1, 1, 1), _weights("v", 2, 4)]
    weights += [_weights("a", 2), _scalar("low", 0.0), _scalar("high", 6.0)]
    return _model(nodes, weights)


def _scalar(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.float32(value).reshape(()), name)


def _old() -> bytes:
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"], "reshape"),
        helper.make_node("MatMul", ["flat", "w"], ["scores"], "matmul"),
    ]
    shape = numpy_helper.from_array(np.array([0, -1], np.int64), "shape")
    return _model(nodes, [_weights("w", 48, 2), shape], opset=7, listed=True, shape=(1, 3, 4, 4))


def _channels_last() -> bytes:
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["t"], ["m"], "mean", axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["scores"], "matmul"),
    ]
    return _model(nodes, [_weights("w", 3, 2)], shape=("n", 4, 4, 3))


def _branches() -> bytes:
    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("Relu", ["flat"], [name], name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, _FLOAT, None)])

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], "flatten"),
        helper.make_node(
            "If", ["yes"], ["chosen"], "if", then_branch=branch("then"), else_branch=branch("else")
        ),
        helper.make_node("MatMul", ["chosen", "w"], ["scores"], "matmul"),
    ]
    yes = numpy_helper.from_array(np.array(True), "yes")
    return _model(nodes, [_weights("w", 48, 2), yes])


def _quantized() -> bytes:
    scale, zero = _scalar("scale", 0.1), numpy_helper.from_array(np.uint8(3).reshape(()), "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], "dq"),
        helper.make_node("Flatten", ["x"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "w"], ["scores"], "matmul"),
    ]
    return _model(nodes, [_weights("w", 48, 2), scale, zero])


def _external() -> bytes:
    model = onnx.ModelProto()
    model.ParseFromString(_channels_last())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../weights.bin"), ("offset", "0"), ("length", "24")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def models() -> Mapping[str, str | bytes]:
    """By what is special about them."""
    return {
        "classifier.onnx": _classifier(),
        "opset-7.onnx": _old(),
        "channels-last.onnx": _channels_last(),
        "branches.onnx": _branches(),
        "quantized.onnx": _quantized(),
        "external.onnx": _external(),
        "empty.onnx": b"",
    }


SEEDS: dict[str, Callable[[], Mapping[str, str | bytes]]] = {"model": models}
