"""Reads an fp32 classifier, says what it takes and gives, and writes models with their provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from quantize.errors import InputError
from quantize.files import atomic_write_bytes
from quantize.graph import GraphIndex, opset_of

Layout = Literal["NCHW", "NHWC"]

# Operators between the classifier's scores and the graph's output that do not change their order or meaning.
_SHAPE_ONLY = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout"})

# Whatever their domain; operators called QLinear… count as well.
_QUANTIZED_OPERATORS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
        "QGemm",
        "QAttention",
    }
)

# One protobuf message cannot hold more (protobuf's own limit is 2 GiB - 1).
_PROTOBUF_LIMIT_BYTES = (1 << 31) - 1


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
        InputError: the file is missing, is not ONNX, or breaks the specification.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{named}{path}: {what}; give the path of an .onnx file")
    try:
        model = onnx.load(path)
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise InputError(f"{named}{path}: cannot be read as ONNX ({_first_line(error)})") from error
    if not model.graph.node:
        raise InputError(f"{named}{path}: is not an ONNX model, or has no operators; check the download")
    if not strict:
        return model
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{named}{path}: is not a valid ONNX model ({_first_line(error)})") from error
    return model


def require_float(model: onnx.ModelProto, path: Path) -> None:
    """Checks that a model has not been quantized already.

    Raises:
        InputError: it holds integer operators; the message names the first.
    """
    for node in model.graph.node:
        if node.op_type in _QUANTIZED_OPERATORS or node.op_type.startswith("QLinear"):
            raise InputError(
                f"--input_model {path}: is quantized already (operator {node.op_type} {node.name!r}); "
                "give the fp32 model that it was made from"
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
        InputError: not exactly one float32 image input of rank 4, or not exactly one output.
    """
    index = GraphIndex(model.graph)
    inputs = [value for value in model.graph.input if value.name not in index.initializers]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise InputError(f"{named}{path}: needs exactly one image input, found {names}")
    shape = _shape(inputs[0])
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        named = kind in onnx.TensorProto.DataType.values()  # a file may hold any number
        label = onnx.TensorProto.DataType.Name(kind) if kind and named else f"no tensor ({kind})"
        raise InputError(f"{named}{path}: input {inputs[0].name!r} is {label}; a float32 image is needed")
    if len(shape) != 4:
        raise InputError(
            f"{named}{path}: input {inputs[0].name!r} has rank {len(shape)}; an image batch has rank 4"
        )
    if len(model.graph.output) != 1:
        names = ", ".join(repr(value.name) for value in model.graph.output)
        raise InputError(f"{named}{path}: needs exactly one output, found {names}; cut the others off")
    output = model.graph.output[0]
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
    if size_bytes > _PROTOBUF_LIMIT_BYTES:
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


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """The declared extents; None for symbolic, absent, and non-positive ones."""
    dims: list[Any] = list(value.type.tensor_type.shape.dim)
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _layout(shape: tuple[int | None, ...], transposed: bool) -> Layout:
    """Channels are the axis of extent 1, 3 or 4; where both or neither fit, the transforms decide."""
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
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


def external_files(path: Path) -> tuple[Path, ...]:
    """The files beside a model that its initializers refer to, in alphabetical order."""
    model = onnx.load(path, load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / name for name in sorted(names))
