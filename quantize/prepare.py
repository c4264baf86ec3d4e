"""Brings an fp32 model into the form that the rest works on, and proves that it still computes the same.

After `prepare`: an opset from 13 (per-channel `DequantizeLinear` needs its `axis`) to 27, BatchNorm and
constants folded, every node named once, initializers no longer listed as inputs, spatial means spelled
`GlobalAveragePool`, types and shapes inferred.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import version_converter

from quantize.errors import EngineError, InputError
from quantize.graph import (
    GraphIndex,
    attribute,
    opset_of,
    tensor_names,
    unique_name,
    without_dead_nodes,
)
from quantize.loading.contents import nodes as all_nodes
from quantize.model import Signature
from quantize.nonfinite import explained
from quantize.scratch import temporary_folder
from quantize.session import make_session, outputs

MINIMUM_OPSET = 13
# ONNX Runtime 1.32 runs float operators of opset 28, but has no `QuantizeLinear` of it (tried).
MAXIMUM_OPSET = 27

# Images that the check runs on, and the seed that makes them.
_CHECK_IMAGE_COUNT = 2
_CHECK_SEED = 20190113

# Folding BatchNorm reorders float32 arithmetic: over some hundred layers the scores move by a few 1e-6 of
# their range. A real mistake moves them by their whole range.
_CHECK_TOLERANCE_FRACTION = 1e-3

# Statistics for training, a mask, and indices: exporters list them whether they are used or not.
_OPTIONAL_OUTPUTS = frozenset({"BatchNormalization", "Dropout", "MaxPool"})

# What stands for an open spatial extent when only the model is known; every ImageNet network takes it.
_DEFAULT_EXTENT = 224


def prepare(
    model: onnx.ModelProto, signature: Signature, *, image_shape: tuple[int, ...] | None = None
) -> onnx.ModelProto:
    """Returns an equivalent model that is ready to be quantized; the argument is left alone.

    Args:
        model: a checked fp32 classifier of any opset.
        signature: what `read_signature` found.
        image_shape: extents of one preprocessed image without the batch axis, for models that leave them
            open.

    Raises:
        InputError: the opset cannot be converted, or the model puts out NaN for seeded noise.
        EngineError: the prepared model does not reproduce the original's outputs.
    """
    original = onnx.ModelProto()
    original.CopyFrom(model)
    spell_default_domain(original)
    drop_initializer_inputs(original.graph)
    # ONNX Runtime refuses equal names, and folding reports operators by theirs.
    name_everything(original.graph)
    drop_dead_nodes(original.graph)
    drop_unread_outputs(original.graph)
    prepared = infer_types(fold(convert_opset(original)))
    means_to_global_pools(prepared)
    name_everything(prepared.graph)
    drop_unused_imports(prepared)
    difference = _relative_difference(original, prepared, signature, image_shape)
    if np.isnan(difference):
        raise EngineError(
            "the model's outputs on random images became NaN or infinite, or changed their shape, while it "
            "was prepared; export it again with another opset"
        )
    if difference > _CHECK_TOLERANCE_FRACTION:
        raise EngineError(
            f"preparing the model changed its outputs by {difference:.2%} of their range (opset "
            f"{opset_of(model)} -> {opset_of(prepared)}); export it again with opset {MINIMUM_OPSET} or newer"
        )
    return prepared


def spell_default_domain(model: onnx.ModelProto) -> None:
    """Calls ONNX's own domain by its empty name everywhere; `ai.onnx` is the same (onnx/IR.md)."""
    named: list[Any] = [*model.opset_import, *all_nodes(model)]
    for function in model.functions:
        named += function.opset_import
    for one in named:
        one.domain = _domain(one.domain)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def drop_initializer_inputs(graph: onnx.GraphProto) -> None:
    """Takes initializers out of the inputs, where IR < 4 requires them, so that they can be folded."""
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


def drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Drops what the output does not depend on; a dead reader would keep a Relu from being absorbed."""
    kept = without_dead_nodes(graph.node, frozenset(value.name for value in graph.output))
    del graph.node[:]
    graph.node.extend(kept)


def drop_unread_outputs(graph: onnx.GraphProto) -> None:
    """Drops optional outputs that nobody reads; they keep an operator from being folded, or an integer.

    A BatchNormalization that normalizes by the batch itself has to have all of its outputs.
    """
    index = GraphIndex(graph)
    for node in graph.node:
        while node.op_type in _OPTIONAL_OUTPUTS and len(node.output) > 1:
            read = node.output[-1] in index.outputs or index.readers(node.output[-1])
            if read or attribute(node, "training_mode", 0):
                break
            del node.output[-1]


def convert_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Converts a model to the nearest opset from 13 to 27; most are there already and stay as they are.

    Raises:
        InputError: onnx's converter has no rule for an operator of this model.
    """
    # Initializers that are not inputs need IR 4; the converter keeps the version it is given.
    model.ir_version = max(model.ir_version, 7)
    wanted = min(max(opset_of(model), MINIMUM_OPSET), MAXIMUM_OPSET)
    if opset_of(model) == wanted:
        return model
    try:
        return version_converter.convert_version(model, wanted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"--input_model: opset {opset_of(model)} cannot be converted to {wanted} ({cause}); "
            f"export the model with an opset from {MINIMUM_OPSET} to {MAXIMUM_OPSET}"
        ) from error


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Folds BatchNorm, constants and no-ops with ONNX Runtime's basic level.

    It emits standard operators only, unlike the levels above it.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """
    with temporary_folder("fold") as folder:
        path = folder / "folded.onnx"
        make_session(model, threads=1, optimization="basic", optimized_path=path)
        return onnx.load(path)


def infer_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Adds element types and shapes of the inner tensors, which ONNX Runtime leaves out of what it writes."""
    return onnx.shape_inference.infer_shapes(model)


def means_to_global_pools(model: onnx.ModelProto) -> None:
    """Spells `ReduceMean` over the two spatial axes of an NCHW tensor as `GlobalAveragePool`.

    They are the same function where the reduced axes are kept; only the second has an integer kernel.
    Means that drop the axes become a pool and a `Flatten`, which gives the same [N, C].
    """
    graph = model.graph
    index = GraphIndex(graph)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in [*graph.value_info, *graph.input]}
    taken = tensor_names(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4 or _axes(node, index) != (2, 3):
            nodes.append(node)
            continue
        if attribute(node, "keepdims", 1):
            nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name))
            continue
        pooled = unique_name(f"{node.output[0]}_pooled", taken)
        nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], [pooled], node.name))
        nodes.append(onnx.helper.make_node("Flatten", [pooled], node.output, f"{node.name}_flatten", axis=1))
    del graph.node[:]
    graph.node.extend(nodes)


def name_everything(graph: onnx.GraphProto) -> None:
    """Gives every node a name of its own; the engine and the report speak of operators by name."""
    taken = tensor_names(graph) | {node.name for node in graph.node}
    seen: set[str] = set()
    for position, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = unique_name(f"{node.op_type}_{position}", taken)
        seen.add(node.name)


def drop_unused_imports(model: onnx.ModelProto) -> None:
    """Removes the imports of operator domains that no node uses; ONNX Runtime adds all that it knows."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _axes(node: onnx.NodeProto, index: GraphIndex) -> tuple[int, ...] | None:
    """The axes that a ReduceMean of rank 4 reduces, from the front; opset 18 made them an input."""
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
    old = outputs(make_session(before, threads=1), images, model="--input_model")
    new = outputs(make_session(after, threads=1), images, model="the prepared model")
    if not np.all(np.isfinite(old)):
        raise explained(before, images, model="--input_model", image_name="images of seeded noise")
    if old.shape != new.shape or not (np.all(np.isfinite(old)) and np.all(np.isfinite(new))):
        return float("nan")
    spread = float(np.ptp(old)) or 1.0
    return float(np.max(np.abs(old - new))) / spread
