"""Writes small seeded graphs, node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FloatArray = npt.NDArray[np.float32]

EXTENT = 10
CLASSES = 5


class Net:
    """A graph under construction; weights come from one seed.

    Attributes:
        opset: which decides where Clip, ReduceMean, Squeeze and Unsqueeze take their parameters.
        named: whether nodes get names.
    """

    def __init__(self, opset: int = 13, *, seed: int = 0, named: bool = True) -> None:
        self.opset, self.named = opset, named
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.count = 0

    def constant(self, value: npt.ArrayLike, kind: npt.DTypeLike = np.float32, name: str = "") -> str:
        self.count += 1
        name = name or f"c{self.count}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        spread = scale / np.sqrt(max(np.prod(shape[1:]), 1))
        return self.constant(self.random.normal(0, spread, shape))

    def node(self, op_type: str, *inputs: str, output: str = "", outputs: int = 1, **attributes: Any) -> str:
        self.count += 1
        first = output or f"t{self.count}"
        names = [first, *(f"{first}_{extra}" for extra in range(1, outputs))]
        name = f"{op_type.lower()}_{self.count}" if self.named else ""
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name, **attributes))
        return first

    def conv(
        self,
        x: str,
        into: int,
        out: int,
        kernel: int = 3,
        *,
        bias: bool = True,
        output: str = "",
        **more: Any,
    ) -> str:
        group = more.get("group", 1)
        inputs = [x, self.weight(out, into // group, kernel, kernel)]
        if bias:
            inputs.append(self.constant(self.random.normal(0, 0.3, out)))
        if not {"pads", "auto_pad"} & more.keys():
            more["pads"] = [kernel // 2] * 4
        return self.node("Conv", *inputs, output=output, **more)

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def clip(self, x: str, low: float = 0.0, high: float = 6.0) -> str:
        if self.opset < 11:
            return self.node("Clip", x, min=low, max=high)
        return self.node("Clip", x, self.constant(low), self.constant(high))

    def batch_norm(self, x: str, channels: int) -> str:
        parameters = [
            self.constant(self.random.uniform(0.5, 1.5, channels)),
            self.constant(self.random.normal(0, 0.3, channels)),
            self.constant(self.random.normal(0, 0.3, channels)),
            self.constant(self.random.uniform(0.5, 1.5, channels)),
        ]
        # Until opset 13 exporters also listed the outputs that only training fills.
        return self.node("BatchNormalization", x, *parameters, epsilon=1e-5)

    def mean(self, x: str, axes: Sequence[int] = (2, 3), keepdims: int = 1) -> str:
        if self.opset < 18:
            return self.node("ReduceMean", x, axes=list(axes), keepdims=keepdims)
        return self.node("ReduceMean", x, self.constant(axes, np.int64), keepdims=keepdims)

    def head(self, x: str, channels: int, *, classes: int = CLASSES, output: str = "scores") -> str:
        flat = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        return self.gemm(flat, channels, classes, output=output)

    def gemm(self, x: str, into: int, out: int, *, output: str = "") -> str:
        weights = self.constant(self.random.normal(0, 1 / np.sqrt(into), (out, into)))
        return self.node("Gemm", x, weights, self.weight(out), output=output, transB=1)

    def model(
        self,
        *,
        channels: int = 3,
        batch: int | str = "n",
        classes: int | None = CLASSES,
        shape: Sequence[int | str | None] | None = None,
        output_shape: Sequence[int | str | None] | None = None,
    ) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(
                "image", TensorProto.FLOAT, shape or [batch, channels, EXTENT, EXTENT]
            )
        ]
        if self.opset < 9:  # IR 3: initializers are inputs as well
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.weights]
        output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, output_shape or [batch, classes])
        graph = helper.make_graph(self.nodes, "net", inputs, [output], self.weights)
        version = 3 if self.opset < 9 else 8
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=version
        )


def images(count: int = 8, *, shape: Sequence[int] = (3, EXTENT, EXTENT), seed: int = 3) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)


# Makes one classifier with an input "image" and an output "scores", at an opset.
Maker = Callable[[int], onnx.ModelProto]
ZOO: dict[str, Maker] = {}


def zoo(maker: Maker) -> Maker:
    ZOO[maker.__name__] = maker
    return maker
