"""Reads an fp32 classifier, says what it takes and gives, and writes models with their provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from quantize.errors import InputError
from quantize.files import atomic_write_bytes
from quantize.graph import GraphIndex, element_type, opset_of
from quantize.loading import read_model
from quantize.loading.limits import INPUT_LIMIT_COUNT, PROTOBUF_LIMIT_BYTES
from quantize.loading.quantized import what_is_quantized
from quantize.loading.values import ValuesError, check_values

Layout = Literal["NCHW", "NHWC"]

# Operators between the classifier's scores and the graph's output that do not change their order or meaning.
_SHAPE_ONLY = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"})

# Element types that scores may have.
_SCORES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)

# Grey, colour, colour with transparency.
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Signature:
    """What a classifier takes and gives.

    Attributes:
        input_name: the one image input, float32.
        input_shape: four extents; None where the model leaves one open.
        layout: which axis of the input is the channel.
        output_name: the one output, float32 scores of shape [N, classes] or [N, classes, 1, 1].
        classes: how many classes, None if the model does not say.
        probabilities: whether the scores went through a softmax.
        opset: version of the default operator set.
    """

    input_name: str
    input_shape: tuple[int | None, ...]
    layout: Layout
    output_name: str
    classes: int | None
    probabilities: bool
    opset: int

    @property
    def batch(self) -> int | None:
        """The batch size that the model insists on, None if it takes any."""
        return self.input_shape[0]


def load_model(path: Path, *, named: str = "--input_model ", strict: bool = True) -> onnx.ModelProto:
    """Reads and checks an ONNX model; never modifies the file.

    Args:
        path: the file.
        named: what stands before the path in messages: the flag it came from; empty for an argument.
        strict: refuse a model that breaks the specification. Other quantizers write some that do, such as
            `DequantizeLinear` with an axis in opset 12, and ONNX Runtime runs them all the same.

    Raises:
        InputError: the file is missing, is not ONNX, is inconsistent (`read_model`), breaks the
            specification, or a weight of it is no number.
    """
    model = read_model(path, named=named)
    if not model.graph.node:
        raise InputError(f"{named}{path}: is not an ONNX model, or has no operators; check the download")
    if strict:
        try:
            onnx.checker.check_model(model)
        except MemoryError:  # no fault of the model's: its size was checked
            raise
        except Exception as error:  # the checker's failures have no common root
            raise InputError(
                f"{named}{path}: is not a valid ONNX model ({_first_line(error)}); export it again"
            ) from error
    try:
        check_values(model)
    except ValuesError as error:
        raise InputError(f"{named}{path}: {error}; export the model again from weights that work") from error
    return model


def require_float(model: onnx.ModelProto, path: Path) -> None:
    """Checks that a model has not been quantized already.

    Raises:
        InputError: it holds integer operators or weights; the message names the first, and counts all.
    """
    found = what_is_quantized(model)
    if found is not None:
        raise InputError(
            f"--input_model {path}: is quantized already ({found}); give the fp32 model that it was made from"
        )


def read_signature(
    model: onnx.ModelProto, path: Path, *, transposed: bool = True, named: str = "--input_model "
) -> Signature:
    """Finds the image input and the scores of a classifier.

    Args:
        model: any opset; initializers may be listed as inputs, as IR versions below 4 do.
        path: only named in errors.
        transposed: whether the transforms put channels first; decides where the model's shape cannot.
        named: as for `load_model`.

    Raises:
        InputError: not exactly one float32 image input of rank 4, or not exactly one output; or the output
            is declared as something else than a row of float scores for each image.
    """
    index = GraphIndex(model.graph)
    inputs = [value for value in model.graph.input if value.name not in index.initializers]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise InputError(f"{named}{path}: needs exactly one image input, found {names}")
    shape = _shape(inputs[0])
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        label = element_type(kind) if kind else "no tensor"
        raise InputError(f"{named}{path}: input {inputs[0].name!r} is {label}; a float32 image is needed")
    if len(shape) != 4:
        raise InputError(
            f"{named}{path}: input {inputs[0].name!r} has rank {len(shape)}; an image batch has rank 4"
        )
    _require_images(inputs[0], f"{named}{path}")
    if len(model.graph.output) != 1:
        names = ", ".join(repr(value.name) for value in model.graph.output)
        raise InputError(f"{named}{path}: needs exactly one output, found {names}; cut the others off")
    output = model.graph.output[0]
    _require_scores(output, f"{named}{path}")
    return Signature(
        input_name=inputs[0].name,
        input_shape=shape,
        layout=_layout(shape, transposed),
        output_name=output.name,
        classes=_class_count(_shape(output)),
        probabilities=_ends_in_softmax(index, output.name),
        opset=opset_of(model),
    )


def serialize(model: onnx.ModelProto, metadata: dict[str, str] | None = None) -> bytes:
    """Returns a model's bytes, the same for the same model in every run.

    Args:
        model: left alone.
        metadata: replaces the model's own, in sorted order; None keeps what it has.

    Raises:
        InputError: the model is larger than one protobuf message can be.
    """
    size_bytes = model.ByteSize()
    if size_bytes > PROTOBUF_LIMIT_BYTES:
        raise InputError(
            f"the model takes {size_bytes} bytes; one ONNX file holds 2 GiB at most, give a smaller model"
        )
    if metadata is not None:
        named = onnx.ModelProto()
        named.CopyFrom(model)
        del named.metadata_props[:]
        onnx.helper.set_model_props(named, dict(sorted(metadata.items())))
        model = named
    return bytes(model.SerializeToString(deterministic=True))


def save_model(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    """Writes a model with its provenance, atomically; raises as `serialize` and `atomic_write_bytes`."""
    atomic_write_bytes(path, serialize(model, metadata))


def _require_images(value: onnx.ValueInfoProto, where: str) -> None:
    """Images have few channels, first or last, and one call of the model fits into memory."""
    name, shape = value.name, _shape(value)
    if None not in (shape[1], shape[3]) and not {shape[1], shape[3]} & set(_CHANNELS):
        raise InputError(
            f"{where}: input {name!r} has the shape {_spelled(shape)}, in which no axis is the channels of "
            "an image (1, 3 or 4); an image classifier is needed"
        )
    if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim):
        raise InputError(
            f"{where}: input {name!r} takes no images, having an extent of 0; name it, or give its size"
        )
    count = math.prod(extent or 1 for extent in shape)
    if count > INPUT_LIMIT_COUNT:
        raise InputError(
            f"{where}: input {name!r} has the shape {_spelled(shape)}, {count} numbers in one call; "
            f"{INPUT_LIMIT_COUNT} are the most"
        )


def _require_scores(value: onnx.ValueInfoProto, where: str) -> None:
    """A row of float scores for each image, as far as the model says what it gives."""
    tensor = value.type.tensor_type
    of_tensors = value.type.WhichOneof("value") in (None, "tensor_type")
    if not of_tensors or tensor.elem_type not in (onnx.TensorProto.UNDEFINED, *_SCORES):
        what = element_type(tensor.elem_type) if of_tensors else "no tensor"
        raise InputError(
            f"{where}: output {value.name!r} is {what}; float scores are needed, cut off what follows them"
        )
    shape = _shape(value)
    several = sum(extent not in (None, 1) for extent in shape[1:]) > 1
    if tensor.HasField("shape") and (len(shape) < 2 or several):
        raise InputError(
            f"{where}: output {value.name!r} has the shape {_spelled(shape)}; a row of scores for each image "
            "is needed, [images, classes]: give an image classifier"
        )


def _spelled(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if extent is None else str(extent) for extent in shape) + "]"


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """The declared extents; None for symbolic, absent, and non-positive ones."""
    dims: list[Any] = list(value.type.tensor_type.shape.dim)
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _layout(shape: tuple[int | None, ...], transposed: bool) -> Layout:
    """Channels are the axis of extent 1, 3 or 4; where both or neither fit, the transforms decide."""
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first != last:
        return "NCHW" if first else "NHWC"
    return "NCHW" if transposed else "NHWC"


def _class_count(shape: tuple[int | None, ...]) -> int | None:
    """How many scores one image gets, whichever axis they are on ([N, C], [N, C, 1, 1], [N, 1, 1, C])."""
    scores = [extent for extent in shape[1:] if extent is not None]
    return math.prod(scores) if scores and len(scores) == len(shape) - 1 else None


def _ends_in_softmax(index: GraphIndex, tensor: str) -> bool:
    """Whether the scores are probabilities: a Softmax with only reshaping behind it."""
    node = index.producer.get(tensor)
    while node is not None and node.op_type in _SHAPE_ONLY:
        node = index.producer.get(node.input[0])
    return node is not None and node.op_type == "Softmax"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
