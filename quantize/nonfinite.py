"""Finds the operator that first makes NaN or infinity, once a value that is not finite has been seen.

Looking costs one run of the unoptimized model with every tensor as an output, on the one image that did it,
so it is done only then; that something is wrong is seen in numbers that are looked at anyway: the extremes
of calibration, and the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from calibration.dataloader import DataLoader
from quantize.errors import EngineError, InputError, PipelineError
from quantize.graph import GraphIndex, tensors_read
from quantize.loading import read_model
from quantize.metrics import NonFiniteError
from quantize.session import make_session, run

Array = npt.NDArray[Any]
Source = onnx.ModelProto | str | Path
# Number of an image -> what to call it.
Naming = Callable[[int], str]


@dataclass(frozen=True)
class Culprit:
    """Where a value that is not finite comes from.

    Attributes:
        operator: the first in topological order that makes one of finite numbers; None for the image itself.
        op_type: of it.
        tensor: what it makes.
        what: "NaN" or "infinity"; NaN if both are among the values.
        constant: one of its constants that is not finite itself, None if all are.
    """

    operator: str | None
    op_type: str
    tensor: str
    what: str
    constant: str | None = None

    def __str__(self) -> str:
        """The beginning of a sentence."""
        if self.operator is None:
            return f"input {self.tensor!r} holds {self.what}"
        text = f"operator {self.operator!r} ({self.op_type}) is the first to make {self.what}"
        return text if self.constant is None else f"{text}, which its constant {self.constant!r} holds"


def find_culprit(source: Source, image: Array, suspects: Sequence[str] = ()) -> Culprit | None:
    """The first operator that makes what is not finite in some tensors.

    Only what the suspects depend on through values that are not finite counts: the infinity of a mask that a
    Softmax turns into zeros is no fault.

    Args:
        source: a model, or the file of one.
        image: one image as the model takes it, [1, ...], or as many copies as the model insists on.
        suspects: tensors that are not finite; the model's outputs by default.

    Returns:
        None where the unoptimized model keeps to finite numbers, or cannot be run with all its tensors as
        outputs.
    """
    try:
        model = source if isinstance(source, onnx.ModelProto) else read_model(Path(source))
        values = _all_values(model, image)
    except (PipelineError, OSError, ValueError):
        return None
    bad = {name for name, value in values.items() if is_bad(value)}
    index = GraphIndex(model.graph)
    name = _image_input(model).name
    if name in bad:
        return Culprit(None, "", name, _what(values[name]))
    pending = [tensor for tensor in suspects or index.outputs if tensor in bad]
    reached: set[str] = set(pending)
    while pending:
        node = index.producer.get(pending.pop())
        for read in () if node is None else tensors_read(node):
            if read in bad and read not in reached:
                reached.add(read)
                pending.append(read)
    for node in model.graph.node:
        made = [tensor for tensor in node.output if tensor in reached]
        if made:
            arrays = {name: index.array(name) for name in tensors_read(node)}
            constant = next((name for name, one in arrays.items() if one is not None and is_bad(one)), None)
            return Culprit(node.name or made[0], node.op_type, made[0], _what(values[made[0]]), constant)
    return None


def is_bad(value: object) -> bool:
    """Whether an array of floats holds NaN or an infinity."""
    return (
        isinstance(value, np.ndarray)
        and np.issubdtype(value.dtype, np.floating)
        and not bool(np.isfinite(value).all())
    )


def explained(
    source: Source,
    image: Array,
    *,
    model: str,
    image_name: str,
    suspects: Sequence[str] = (),
    ours: bool = False,
) -> PipelineError:
    """The error that says in one line which operator makes NaN or infinity, and of which image.

    Args:
        source: a model, or the file of one.
        image: as for `find_culprit`.
        model: what to call the model.
        image_name: what to call the image, such as "image a.png".
        suspects: as for `find_culprit`.
        ours: whether the model was made here, so that nothing that was given is to blame for it.

    Returns:
        An `InputError`: the model and the images are the user's; an `EngineError` where the model is `ours`.
    """
    found = find_culprit(source, image, suspects)
    if found is None:
        tensors = ", ".join(map(repr, suspects)) or "its output"
        where = f"{tensors} of {model} is NaN or infinite, though no operator makes that unoptimized"
        text = f"{where}, for {image_name}"
    elif found.operator is None:
        text = f"{model}: {found} behind the transforms, for {image_name}; check Normalize and Rescale"
    else:
        text = f"{model}: {found}, for {image_name}"
    if ours:
        return EngineError(f"{text}; this is a fault of the pipeline")
    if found is None or found.operator is not None:
        text += "; check that the model works in fp32 on such images, and the transforms"
    return InputError(text)


def explained_scores(
    error: NonFiniteError, source: Source, images: Array, naming: Naming, *, model: str, ours: bool = False
) -> PipelineError:
    """As `explained`, for scores that are not finite.

    Args:
        error: which of the images.
        source: the model, or its file.
        images: the batch, [N, ...].
        naming: what to call image i of the batch.
        model: what to call the model.
        ours: as for `explained`.
    """
    row = error.rows[0]
    return explained(source, images[row : row + 1], model=model, image_name=naming(row), ours=ours)


def naming_of(batches: object, first: int = 0) -> Naming:
    """By paths, where it is known which files the batches are of; else by numbers from 0."""
    if isinstance(batches, DataLoader):
        return lambda number: f"image {batches.images.path(first + number)}"
    return lambda number: f"image number {first + number}"


def _all_values(model: onnx.ModelProto, image: Array) -> dict[str, Any]:
    """Every tensor of the main graph, by name; the image among them."""
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    graph = augmented.graph
    present = {value.name for value in graph.output}
    made = [name for node in graph.node for name in node.output if name and name not in present]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(made))
    image_input = _image_input(model)
    batch = max(image_input.type.tensor_type.shape.dim[0].dim_value, 1)
    if len(image) != batch:
        image = np.repeat(image[:1], batch, axis=0)
    kind = onnx.helper.tensor_dtype_to_np_dtype(image_input.type.tensor_type.elem_type)
    session = make_session(augmented, threads=1, optimization="none")
    names = [value.name for value in session.get_outputs()]
    found = run(session, names, {image_input.name: np.ascontiguousarray(image.astype(kind))})
    return {image_input.name: image, **dict(zip(names, found, strict=True))}


def _image_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The first input that is no constant; models of IR 3 list those as inputs too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found: onnx.ValueInfoProto = next(v for v in model.graph.input if v.name not in constants)
    return found


def _what(value: Array) -> str:
    return "NaN" if bool(np.isnan(value).any()) else "infinity"
