"""A model that takes raw pixels: the preprocessing's arithmetic becomes the first operators of its graph.

An app then only resizes and crops. The operators are those of `calibration.transforms`, in their order and in
float32, where IEEE 754 leaves no choice: `(x / 255 - mean) / std` gives the same bits in the graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.transforms import Pipeline
from calibration.transforms.arithmetic import Cast, Normalize, Rescale, Transpose
from calibration.transforms.base import Transform, check_numbers
from quantize.errors import InputError
from quantize.graph import GraphIndex, tensor_names, unique_name
from quantize.model import Signature

PixelLayout = Literal["NHWC", "NCHW"]

# Metadata of the result: how its input is made.
PREPROCESSING_KEY = "quantize.preprocessing"
INPUT_KEY = "quantize.input"

_CHANNELS = 3

# Sub, Div and Transpose take their present form with opset 7; Cast takes numbers for types with 6.
_MINIMUM_OPSET = 7


@dataclass(frozen=True)
class Split:
    """A pipeline in two: what the app does with 8-bit pixels, and what the graph does.

    Attributes:
        geometry: image → uint8 [H, W, 3].
        arithmetic: the steps behind it.
    """

    geometry: Pipeline
    arithmetic: tuple[Transform, ...]


def split_pipeline(pipeline: Pipeline) -> Split:
    """Finds the part of a pipeline that can become operators: its arithmetic tail.

    Raises:
        InputError: there is none, because something resizes or crops after the arithmetic, or does both.
    """
    steps = pipeline.steps
    count = 0
    while count < len(steps) and isinstance(steps[-1 - count], Rescale | Normalize | Transpose | Cast):
        count += 1
    geometry = Pipeline(steps[: len(steps) - count])
    spec = geometry.output_spec()
    if not count or spec.dtype != np.uint8 or spec.axes != "HWC":
        last = type(geometry.steps[-1]).__name__ if geometry.steps else "nothing"
        raise InputError(
            f"transform: {last} does not leave 8-bit pixels for the graph to start from; write resizing and "
            "cropping first (ResizeShortest, Resize, CenterCrop), then Rescale, Normalize and Transpose"
        )
    for step in steps[len(steps) - count :]:
        if isinstance(step, Cast) and step.dtype != "float32":
            raise InputError(f"transform Cast: {step.dtype} cannot be folded into the graph; use float32")
    return Split(geometry, steps[len(steps) - count :])


def fold_preprocessing(
    model: onnx.ModelProto, signature: Signature, split: Split, *, layout: PixelLayout = "NHWC"
) -> onnx.ModelProto:
    """Returns the model with an input of raw pixels; the argument is left alone.

    Args:
        model: takes float32 images, opset 7 or newer.
        signature: of the model.
        split: of the preprocessing.
        layout: of the pixels, uint8 RGB.

    Raises:
        InputError: the opset is older, or the preprocessing does not make what the model takes.
    """
    if signature.opset < _MINIMUM_OPSET:
        raise InputError(
            f"opset {signature.opset} is too old; export the model with {_MINIMUM_OPSET} or newer"
        )
    made = onnx.ModelProto()
    made.CopyFrom(model)
    # Constants that are no inputs need IR 4.
    made.ir_version = max(made.ir_version, 4)
    head = _Head(tensor_names(made.graph), signature, layout)
    shape = head.build(split)
    wanted = signature.input_shape[1:]
    if any(None not in (have, want) and have != want for have, want in zip(shape, wanted, strict=True)):
        raise InputError(
            f"transform: makes {_extents(shape)}, but the model takes {_extents(wanted)}; change the size of "
            "CenterCrop or Resize, or the order of Transpose"
        )
    _replace_input(made.graph, signature, head)
    description = {
        INPUT_KEY: f"uint8 RGB {layout}",
        PREPROCESSING_KEY: json.dumps(
            {"app": split.geometry.to_json(), "graph": [s.to_json() for s in split.arithmetic]}
        ),
    }
    kept = {entry.key: entry.value for entry in made.metadata_props}
    del made.metadata_props[:]
    helper.set_model_props(made, dict(sorted((kept | description).items())))
    onnx.checker.check_model(made)
    return made


@dataclass
class _Head:
    """The operators before the model's own."""

    taken: set[str]
    signature: Signature
    layout: PixelLayout
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.input = unique_name("pixels", self.taken)
        self.tensor = self.input
        self.axes = "HWC"
        self.extents: dict[str, int | None] = {}

    def build(self, split: Split) -> tuple[int | None, ...]:
        """Adds the operators; returns the shape of what they make, without the batch.

        Arithmetic on single values does not mind the order of axes, but ONNX Runtime does: it broadcasts a
        constant for each channel slowly where channels are last, three numbers at a time. So pixels of
        [H, W, 3] are computed as rows of W*3 numbers, with constants of that length: 0.1 instead of 1.2 ms
        for 224x224, measured on one core of an x86 server.
        """
        wanted = self.axes
        for step in split.arithmetic:
            if isinstance(step, Transpose):
                wanted = "".join(wanted[axis] for axis in step.perm)
        self.extents = self._known_extents(split)
        self.axes = "HWC" if self.layout == "NHWC" else "CHW"
        width = self.extents["W"]
        rows = self.axes == "HWC" and width is not None
        if rows:
            self._reshape([0, 0, -1])
        else:
            self._transpose(wanted)
        self._add("Cast", to=TensorProto.FLOAT)
        for step in split.arithmetic:
            self._step(step, repeat=width if rows else None)
        if rows:
            self._reshape([0, 0, -1, _CHANNELS])
            self._transpose(wanted)
        return tuple(self.extents[axis] for axis in self.axes)

    def _known_extents(self, split: Split) -> dict[str, int | None]:
        """Height, width and channels: what the app's part makes, or else what the model asks for."""
        axes = "CHW" if self.signature.layout == "NCHW" else "HWC"
        of_model = dict(zip(axes, self.signature.input_shape[1:], strict=True))
        made = dict(zip("HWC", split.geometry.output_spec().shape, strict=True))
        return {axis: of_model[axis] if made[axis] is None else made[axis] for axis in "HWC"}

    def _step(self, step: Transform, *, repeat: int | None) -> None:
        if isinstance(step, Rescale):
            self._add("Div", np.float32(255))
        elif isinstance(step, Normalize):
            for op_type, field_name in (("Sub", "mean"), ("Div", "std")):
                numbers = check_numbers(f"Normalize: {field_name}", getattr(step, field_name))
                self._add(op_type, self._per_channel(numbers, repeat))

    def _per_channel(self, values: Sequence[float], repeat: int | None) -> npt.NDArray[np.float32]:
        """One number, or one for each channel, shaped to be broadcast; in a row, repeated for each pixel."""
        numbers = np.array(values, np.float32)
        if repeat is not None:
            return numbers if len(numbers) == 1 else np.tile(numbers, repeat)
        after = len(self.axes) - 1 - self.axes.index("C")
        return numbers.reshape(-1, *([1] * after))

    def _transpose(self, wanted: str) -> None:
        if self.axes != wanted:
            self._add("Transpose", perm=[0, *(self.axes.index(axis) + 1 for axis in wanted)])
            self.axes = wanted

    def _reshape(self, shape: Sequence[int]) -> None:
        """In ONNX, 0 keeps an extent, and -1 is what is left."""
        self._add("Reshape", np.array(shape, np.int64))

    def _add(
        self, op_type: str, constant: npt.NDArray[Any] | np.float32 | None = None, **attributes: Any
    ) -> None:
        inputs = [self.tensor]
        if constant is not None:
            name = unique_name(f"preprocessing_{op_type.lower()}_by", self.taken)
            self.constants.append(numpy_helper.from_array(np.asarray(constant), name))
            inputs.append(name)
        output = unique_name(f"preprocessing_{op_type.lower()}", self.taken)
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        self.tensor = output


def _replace_input(graph: onnx.GraphProto, signature: Signature, head: _Head) -> None:
    """The last operator of the head makes the tensor that used to be the input."""
    head.nodes[-1].output[0] = signature.input_name
    initializers = GraphIndex(graph).initializers
    others = [value for value in graph.input if value.name in initializers]
    (old,) = (value for value in graph.input if value.name == signature.input_name)
    batch = old.type.tensor_type.shape.dim[0]
    axes = "HWC" if head.layout == "NHWC" else "CHW"
    name = batch.dim_param if batch.HasField("dim_param") and batch.dim_param else "N"
    shape = [signature.batch or name, *(head.extents[axis] or axis.lower() for axis in axes)]
    new = helper.make_tensor_value_info(head.input, TensorProto.UINT8, shape)
    nodes = [*head.nodes, *graph.node]
    for entries, wanted in ((graph.input, [new, *others]), (graph.node, nodes)):
        del entries[:]
        entries.extend(wanted)
    graph.initializer.extend(head.constants)


def _extents(shape: Sequence[int | None]) -> str:
    return "x".join("?" if extent is None else str(extent) for extent in shape)
