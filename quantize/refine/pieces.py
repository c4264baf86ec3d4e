"""Models cut out of a graph, to be run by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper

from quantize.graph import tensors_read

Held = Mapping[str, npt.NDArray[Any]]


def cut_out(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], given: Held, outputs: Sequence[str]
) -> onnx.ModelProto:
    """A model of some nodes, with what they read of `given` as its inputs.

    Args:
        model: where the nodes, or what they were made of, and their constants come from.
        nodes: in an order in which they can run.
        given: values of tensors, which show types and shapes.
        outputs: tensors that the nodes make.
    """
    needed = {name for node in nodes for name in tensors_read(node)}
    piece = onnx.ModelProto()
    piece.ir_version = model.ir_version
    piece.opset_import.extend(model.opset_import)
    piece.functions.extend(model.functions)
    # Field by field, because constants are large and `make_graph` would copy them once more.
    graph = piece.graph
    graph.name = "piece"
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    for name, value in given.items():
        if name in needed:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return piece
