"""Look-ups in an ONNX graph: who makes a tensor, who reads it, which tensors are constant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True)
class GraphIndex:
    """An index of one main graph; it describes the graph as it was when an entry was first asked for.

    What the branches of an If or the body of a Loop read from outside counts as read by that operator.
    """

    graph: onnx.GraphProto

    @cached_property
    def producer(self) -> Mapping[str, onnx.NodeProto]:
        """Tensor name -> the node that makes it; graph inputs and initializers have none."""
        return {name: node for node in self.graph.node for name in node.output if name}

    @cached_property
    def consumers(self) -> Mapping[str, Sequence[onnx.NodeProto]]:
        """Tensor name -> the nodes that read it, in graph order, once each."""
        readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in dict.fromkeys(tensors_read(node)):
                readers[name].append(node)
        return readers

    @cached_property
    def read_inside(self) -> frozenset[str]:
        """The tensors that some sub-graph takes from outside."""
        found = ((node, name) for node in self.graph.node for name in tensors_read(node))
        return frozenset(name for node, name in found if name not in node.input)

    @cached_property
    def initializers(self) -> Mapping[str, onnx.TensorProto]:
        """Initializer name -> its tensor."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    @cached_property
    def outputs(self) -> frozenset[str]:
        """The names of the graph's outputs."""
        return frozenset(value.name for value in self.graph.output)

    @cached_property
    def element_types(self) -> Mapping[str, int]:
        """Tensor name -> `TensorProto` element type, where it is declared or was inferred."""
        values = [*self.graph.input, *self.graph.output, *self.graph.value_info]
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        return types | {tensor.name: tensor.data_type for tensor in self.graph.initializer}

    def readers(self, tensor: str) -> Sequence[onnx.NodeProto]:
        """The nodes that read `tensor`; none is an empty sequence."""
        return self.consumers.get(tensor, ())

    def array(self, name: str) -> np.ndarray[Any, Any] | None:
        """The value of an initializer, or None if `name` is not one."""
        tensor = self.initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Returns the value of a node's attribute, or `default` where it is absent."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def tensors_read(node: onnx.NodeProto) -> list[str]:
    """Returns the tensors that a node reads, those that its sub-graphs take from outside included."""
    names = [name for name in node.input if name]
    for entry in node.attribute:
        for inner in [entry.g] if entry.HasField("g") else entry.graphs:
            own = {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
            own.update(name for inside in inner.node for name in inside.output)
            read = [name for inside in inner.node for name in tensors_read(inside)]
            read += [value.name for value in inner.output]
            names += [name for name in read if name not in own]
    return names


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the version of the default operator set that a model imports; 0 if it imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def element_type(kind: int) -> str:
    """A `TensorProto` type in ONNX's spelling, such as "FLOAT" or "UINT8"; a file may hold any number."""
    known: Mapping[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return known.get(kind, f"type {kind}")


def unique_name(wanted: str, taken: set[str]) -> str:
    """Returns `wanted`, or `wanted_2`, `wanted_3`, … , and adds what it returns to `taken`."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def tensor_names(graph: onnx.GraphProto) -> set[str]:
    """Returns every tensor name that a graph uses, its sub-graphs included."""
    names = {tensor.name for tensor in graph.initializer}
    names.update(value.name for value in [*graph.input, *graph.output, *graph.value_info])
    for node in graph.node:
        names.update(node.input)
        names.update(node.output)
        for entry in node.attribute:
            for inner in [entry.g] if entry.HasField("g") else entry.graphs:
                names |= tensor_names(inner)
    return names


def without_dead_nodes(nodes: Sequence[onnx.NodeProto], outputs: frozenset[str]) -> list[onnx.NodeProto]:
    """Returns the nodes that some of `outputs` depends on, in the order given."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(tensors_read(node))
    return kept[::-1]
