"""Finds tensors whose size the model itself fixes, and that no machine should be asked for.

A graph of a hundred bytes can ask for terabytes (`ConstantOfShape`, `Expand`, a convolution with pads of
2^40), which ONNX Runtime would try to compute when it loads the model. onnx's shape inference tells such
shapes from constants without computing them.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import onnx
import onnx.inliner

from quantize.loading.contents import label, nodes
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

    What the model itself says of the shapes inside it is not asked: it need not be true. Functions are
    written out first, as ONNX Runtime does; `quantize.loading.structure` has bounded what that makes.

    Raises:
        GrowthError: a tensor inside would take more than 2 GiB; or what depends on constants alone, which
            ONNX Runtime computes when it loads the model, would take more than 1 GiB together, or its size
            cannot be told.
    """
    if model.functions:
        model = _written_out(model)
    small = _without_weights(model)
    try:
        # Older versions of the inference crash on operators that the checker refuses.
        onnx.checker.check_model(small)
        found = onnx.shape_inference.infer_shapes(small, data_prop=True)
    except Exception:  # their failures have no common root; ONNX Runtime has an inference of its own
        found = small
    total_bytes = _constants_bytes(found.graph, {tensor.name for tensor in model.graph.initializer})
    if total_bytes > CONSTANTS_LIMIT_BYTES:
        raise GrowthError(
            f"the constants that it computes would take {total_bytes} bytes; store them instead"
        )


def _written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same without functions; those that stay, being of another opset, make nothing large."""
    try:
        made: onnx.ModelProto = onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception:  # of no common root, and of no use to anybody
        made = model
    for function in made.functions:
        for node in nodes(function):
            if node.op_type in _GROWING:
                raise GrowthError(
                    f"{label(node)} is in function {function.name!r}, which cannot be written out; export "
                    "the model without functions"
                )
    return made


def _constants_bytes(graph: onnx.GraphProto, around: Collection[str]) -> int:
    """What a graph and those in it compute from constants only; `around`: the constants outside of it."""
    values = [*graph.value_info, *graph.output]
    for value in values:
        if _size_bytes(value) > TENSOR_LIMIT_BYTES:
            raise GrowthError(
                f"tensor {value.name!r} inside it would take {_size_bytes(value)} bytes by its shape; "
                "export the model again"
            )
    known = {value.name: _size_bytes(value) for value in values if _is_known(value)}
    constant = {"", *around, *(tensor.name for tensor in graph.initializer)}
    total = 0
    for node in graph.node:
        total += sum(_constants_bytes(inner, constant) for inner in _branches(node))
        if node.op_type == "Constant":
            constant.update(node.output)
        elif all(name in constant for name in node.input):
            constant.update(node.output)
            for name in node.output:
                if name not in known and node.op_type in _GROWING:
                    raise GrowthError(
                        f"{label(node)} makes a constant whose size cannot be told; export with constants "
                        "folded"
                    )
                total += known.get(name, 0)
    return total


def _size_bytes(value: onnx.ValueInfoProto) -> int:
    """What a tensor takes at least; open extents count as 1."""
    tensor = value.type.tensor_type
    extents = [dim.dim_value for dim in tensor.shape.dim if dim.dim_value > 0]
    return int(math.prod(extents) * BITS.get(tensor.elem_type, 8) // 8)


def _is_known(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _branches(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs right inside an operator."""
    return [
        inner
        for attribute in node.attribute
        for inner in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def _inner_graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    found = []
    for node in graph.node:
        for inner in _branches(node):
            found += [inner, *_inner_graphs(inner)]
    return found


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large initializers are inputs of the same shape, so that it is quick to pass around.

    Nothing in it says what shapes its operators make, but for the rank of outputs, which have to have one.
    """
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
    for one in [graph, *_inner_graphs(graph)]:
        del one.value_info[:]
        for value in one.output:
            for dim in value.type.tensor_type.shape.dim:
                dim.Clear()
    return made
