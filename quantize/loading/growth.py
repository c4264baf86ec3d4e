"""Finds tensors whose size the model itself fixes, and that no machine should be asked for.

A graph of a hundred bytes can ask for terabytes (`ConstantOfShape`, `Expand`, a convolution with pads of
2^40), which ONNX Runtime would try to compute when it loads the model. onnx's shape inference tells such
shapes from constants without computing them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import onnx

from quantize.loading.contents import label
from quantize.loading.limits import CONSTANTS_LIMIT_BYTES, TENSOR_LIMIT_BYTES
from quantize.loading.sizes import BITS

# Shapes, axes and repeats are short; what is larger is weights, of which only the shape counts here.
_KEPT_BYTES = 1 << 12

# Operators that can make much out of a few numbers.
_GROWING = frozenset(
    {
        "ConstantOfShape",
        "Expand",
        "EyeLike",
        "OneHot",
        "Pad",
        "RandomNormal",
        "RandomUniform",
        "Range",
        "Resize",
        "Tile",
        "Upsample",
    }
)


class GrowthError(ValueError):
    """A tensor would be larger than any model may hold."""


def check_growth(model: onnx.ModelProto) -> None:
    """Checks the shapes that follow from the constants; open extents count as 1.

    Raises:
        GrowthError: a tensor inside would take more than 2 GiB; or what depends on constants alone, which
            ONNX Runtime computes when it loads the model, would take more than 1 GiB together, or its size
            cannot be told.
    """
    small = _without_weights(model)
    try:
        # Older versions of the inference crash on operators that the checker refuses.
        onnx.checker.check_model(small)
        found = onnx.shape_inference.infer_shapes(small, data_prop=True)
    except Exception:  # their failures have no common root; ONNX Runtime has an inference of its own
        found = model
    for graph in [found.graph, *_inner_graphs(found.graph)]:
        values = [*graph.value_info, *graph.output]
        for value in values:
            if _size_bytes(value) > TENSOR_LIMIT_BYTES:
                raise GrowthError(
                    f"tensor {value.name!r} inside it would take {_size_bytes(value)} bytes by its shape; "
                    "export the model again"
                )
        known = {value.name: _size_bytes(value) for value in values if _is_known(value)}
        _check_constants(graph, known, {tensor.name for tensor in model.graph.initializer})


def _check_constants(graph: onnx.GraphProto, known: Mapping[str, int], initializers: Collection[str]) -> None:
    """Follows what is computed from constants only."""
    constant = {"", *initializers, *(tensor.name for tensor in graph.initializer)}
    total = 0
    for node in graph.node:
        if not all(name in constant for name in node.input) or node.op_type == "Constant":
            constant.update(node.output if node.op_type == "Constant" else ())
            continue
        constant.update(node.output)
        for name in node.output:
            if name not in known and node.op_type in _GROWING:
                raise GrowthError(
                    f"{label(node)} makes a constant whose size cannot be told; export with constants folded"
                )
            total += known.get(name, 0)
    if total > CONSTANTS_LIMIT_BYTES:
        raise GrowthError(f"the constants that it computes would take {total} bytes; store them instead")


def _size_bytes(value: onnx.ValueInfoProto) -> int:
    """What a tensor takes at least; open extents count as 1."""
    tensor = value.type.tensor_type
    extents = [dim.dim_value for dim in tensor.shape.dim if dim.dim_value > 0]
    return int(math.prod(extents) * BITS.get(tensor.elem_type, 8) // 8)


def _is_known(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _inner_graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    found = []
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found += [inner, *_inner_graphs(inner)]
    return found


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large initializers are inputs of the same shape, so that it is quick to pass around."""
    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    graph = made.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    listed = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _KEPT_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return made
