"""Brings an fp32 model into the form that the rest works on, and proves that it still computes the same.

After `prepare`: opset 13 or newer (per-channel `DequantizeLinear` needs its `axis`), BatchNorm and constants
folded, every node and tensor named once, initializers no longer listed as inputs, spatial means spelled
`GlobalAveragePool`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter

from quantize.errors import EngineError, InputError
from quantize.graph import GraphIndex, attribute, opset_of, tensor_names, unique_name
from quantize.model import Signature
from quantize.session import make_session, outputs

MINIMUM_OPSET = 13

# Images that the check runs on, and the seed that makes them.
_CHECK_IMAGE_COUNT = 2
_CHECK_SEED = 20190113

# Folding BatchNorm reorders float32 arithmetic: over some hundred layers the scores move by a few 1e-6 of
# their range. A real mistake moves them by their whole range.
_CHECK_TOLERANCE_FRACTION = 1e-3

# What stands for an open spatial extent when only the model is known; every ImageNet network takes it.
_DEFAULT_EXTENT = 224


def prepare(model: onnx.ModelProto, signature: Signature, *, image_shape: tuple[int, ...] | None = None) -> onnx.ModelProto:
    """Returns an equivalent model that is ready to be quantized; the argument is left alone.

    Args:
        model: a checked fp32 classifier of any opset.
        signature: what `read_signature` found.
        image_shape: extents of one preprocessed image without the batch axis, for models that leave them open.

    Raises:
        InputError: the opset cannot be raised to 13.
        EngineError: the prepared model does not reproduce the original's outputs.
    """
    original = onnx.ModelProto()
    original.CopyFrom(model)
    drop_initializer_inputs(original.graph)
    prepared = fold(raise_opset(original))
    means_to_global_pools(prepared)
    name_everything(prepared.graph)
    drop_unused_imports(prepared)
    difference = _relative_difference(original, prepared, signature, image_shape)
    if not difference <= _CHECK_TOLERANCE_FRACTION:
        raise EngineError(
            f"preparing the model changed its outputs by {difference:.2%} of their range (opset "
            f"{opset_of(model)} -> {opset_of(prepared)}); export it again with opset {MINIMUM_OPSET} or newer"
        )
    return prepared


def drop_initializer_inputs(graph: onnx.GraphProto) -> None:
    """Takes initializers out of the list of inputs (IR < 4 requires them there), so that they can be folded."""
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Converts a model to opset 13 if it is older; `DequantizeLinear` has its `axis` from 13 on.

    Raises:
        InputError: onnx's converter has no rule for an operator of this model.
    """
    # Initializers that are not inputs need IR 4; the converter keeps the version it is given.
    model.ir_version = max(model.ir_version, 7)
    if opset_of(model) >= MINIMUM_OPSET:
        return model
    try:
        return version_converter.convert_version(model, MINIMUM_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"--input_model: opset {opset_of(model)} cannot be raised to {MINIMUM_OPSET} ({cause}); "
            f"export the model with opset {MINIMUM_OPSET} or newer"
        ) from error


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Folds BatchNorm, constants and no-ops with ONNX Runtime's basic level, which emits standard operators only.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """
    with tempfile.TemporaryDirectory(prefix="quantize-fold-") as folder:
        path = Path(folder) / "folded.onnx"
        make_session(model, threads=1, optimization="basic", optimized_path=path)
        return onnx.load(path)


def means_to_global_pools(model: onnx.ModelProto) -> None:
    """Spells `ReduceMean` over the two spatial axes of an NCHW tensor as `GlobalAveragePool`.

    They are the same function where the reduced axes are kept; only the second has an integer kernel.
    Means that drop the axes become a pool and a `Flatten`, which gives the same [N, C].
    """
    graph = model.graph
    index = GraphIndex(graph)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in [*graph.value_info, *graph.input]}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4 or _axes(node, index) != (2, 3):
            nodes.append(node)
            continue
        if attribute(node, "keepdims", 1):
            nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name))
            continue
        pooled = f"{node.output[0]}_pooled"
        nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], [pooled], node.name))
        nodes.append(onnx.helper.make_node("Flatten", [pooled], node.output, f"{node.name}_flatten", axis=1))
    del graph.node[:]
    graph.node.extend(nodes)


def name_everything(graph: onnx.GraphProto) -> None:
    """Gives every node a name of its own; the engine and the report speak of operators by name."""
    taken = tensor_names(graph)
    seen: set[str] = set()
    for position, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = unique_name(f"{node.op_type}_{position}", taken | seen)
        seen.add(node.name)


def drop_unused_imports(model: onnx.ModelProto) -> None:
    """Removes the imports of operator domains that no node uses; ONNX Runtime adds all that it knows."""
    used = {node.domain if node.domain != "ai.onnx" else "" for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _axes(node: onnx.NodeProto, index: GraphIndex) -> tuple[int, ...] | None:
    """The axes that a ReduceMean of rank-4 input reduces, counted from the front (opset 18 made them an input)."""
    axes: Any = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1:
        value = index.array(node.input[1])
        axes = None if value is None else value.tolist()
    return None if axes is None else tuple(sorted(axis % 4 for axis in axes))


def _relative_difference(
    before: onnx.ModelProto, after: onnx.ModelProto, signature: Signature, image_shape: tuple[int, ...] | None
) -> float:
    """Largest change of an output on seeded noise, as a fraction of the outputs' range; NaN if not finite."""
    if image_shape is None:
        fallback = (3, _DEFAULT_EXTENT, _DEFAULT_EXTENT)
        if signature.layout == "NHWC":
            fallback = (_DEFAULT_EXTENT, _DEFAULT_EXTENT, 3)
        image_shape = tuple(
            extent or default for extent, default in zip(signature.input_shape[1:], fallback, strict=True)
        )
    batch = signature.batch or _CHECK_IMAGE_COUNT
    images = np.random.default_rng(_CHECK_SEED).normal(size=(batch, *image_shape)).astype(np.float32)
    old, new = (outputs(make_session(model, threads=1), images) for model in (before, after))
    if old.shape != new.shape:
        return float("nan")
    spread = float(np.ptp(old)) or 1.0
    return float(np.max(np.abs(old - new))) / spread
