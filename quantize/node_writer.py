"""New nodes and constants for a graph, under names that nobody else has."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantize.errors import EngineError
from quantize.graph import tensor_names, tensors_read, unique_name
from quantize.weights import FloatArray


class NodeWriter:
    """Collects the nodes and constants that replace those of a model.

    Attributes:
        nodes: in topological order, if they are added in one.

    Args:
        model: whose names are taken, and whose initializers stay where they are read; it is left alone.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._taken = tensor_names(model.graph)
        self._node_names = {node.name for node in model.graph.node}
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[tuple[str, str], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def name(self, wanted: str, owner: str = "tensor") -> str:
        """The new tensor name for what `owner` calls `wanted`: always the same, and nobody else's."""
        key = (owner, wanted)
        if key not in self._names:
            self._names[key] = unique_name(wanted, self._taken)
        return self._names[key]

    def constant(self, wanted: str, value: np.ndarray[Any, Any], owner: str = "tensor") -> str:
        """Adds a constant, once for each name; returns the name.

        Raises:
            EngineError: a value of it is NaN or infinite.
        """
        name = self.name(wanted, owner)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            # Integer kernels would make some bytes of it, and nobody would notice.
            raise EngineError(f"constant {name!r} is NaN or infinite; this is a fault of the pipeline")
        self._constants.setdefault(name, numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def append(self, op_type: str, inputs: list[str], output: str) -> None:
        """Adds a node of the default domain, named after what it makes."""
        name = unique_name(f"{output}_{op_type}", self._node_names)
        self.nodes.append(helper.make_node(op_type, inputs, [output], name))

    def fence(self, tensor: str, wanted: str) -> str:
        """Copies a float tensor, so that ONNX Runtime cannot make an integer of an operator left in fp32.

        A Max of one operand is a copy that no optimizer removes.
        """
        fenced = self.name(wanted, "fence")
        self.append("Max", [tensor], fenced)
        return fenced

    def dequantized_constant(
        self, name: str, integers: np.ndarray[Any, Any], scale: FloatArray, axis: int | None
    ) -> str:
        """Adds a constant with its `DequantizeLinear`; returns the name of the dequantized tensor."""
        inputs = [
            self.constant(f"{name}_quantized", integers, "parameter"),
            self.constant(f"{name}_scale", scale, "parameter"),
            self.constant(f"{name}_zero_point", np.zeros(scale.shape, dtype=integers.dtype), "parameter"),
        ]
        output = self.name(f"{name}_dequantized", "parameter")
        self.append("DequantizeLinear", inputs, output)
        if axis is not None:
            self.nodes[-1].attribute.append(helper.make_attribute("axis", axis))
        return output

    def assembled(self) -> onnx.ModelProto:
        """The model with these nodes instead of its own, and with the constants that are read."""
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        graph = result.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in tensors_read(node)}
        used.update(value.name for value in graph.output)
        graph.initializer.extend(t for t in self._model.graph.initializer if t.name in used)
        graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)
        return result
