"""How much a network computes, told from its shapes: the same measure of effort on every machine."""

from __future__ import annotations

import math

import onnx

from quantize.target import WEIGHTED_OPERATORS


def multiply_adds(model: onnx.ModelProto) -> int | None:
    """Multiplications of one image in convolutions and matrix products with constant weights.

    Args:
        model: a prepared model, with the shapes of its inner tensors.

    Returns:
        None where a shape that it takes is not known.
    """
    graph = model.graph
    shapes = {value.name: _shape(value) for value in [*graph.value_info, *graph.output]}
    weights = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type not in WEIGHTED_OPERATORS or node.input[1] not in weights:
            continue
        shape = shapes.get(node.output[0])
        if shape is None:
            return None
        # Every weight meets each position of the output once: the spatial axes of a convolution, behind the
        # channels; what stands before the last axis of a product. The first axis is the batch.
        positions = shape[2:] if node.op_type == "Conv" else shape[1:-1]
        if any(extent is None for extent in positions):
            return None
        total += weights[node.input[1]] * math.prod(extent or 1 for extent in positions)
    return total


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
