"""A model repository for servers that speak the KServe V2 protocol, in the layout of NVIDIA's Triton.

`REPOSITORY/NAME/{config.pbtxt, labels.txt, VERSION/model.onnx}`; the configuration is a `ModelConfig` message
in protobuf's text format (triton-inference-server/common, protobuf/model_config.proto).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantize.errors import InputError
from quantize.files import atomic_write_bytes, atomic_write_text, make_folder
from quantize.graph import GraphIndex, element_type
from quantize.labels import Label, read_labels
from quantize.loading import external_files
from quantize.model import load_model, serialize
from quantize.names import require_plain
from quantize.printable import printable
from quantize.session import make_session

LABELS = "labels.txt"

# ONNX's element types → the schema's.
_TYPES: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
}
_OPEN = -1


@dataclass(frozen=True)
class Port:
    """An input or output: name, type of the schema, and extents; -1 where they are open."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Repository:
    """What was written.

    Attributes:
        folder: of the model, inside the repository.
        files: all of them.
        name: by which requests name the model.
        max_batch_size: 0 where the model insists on a batch of its own.
        inputs, outputs: as a request sees them, without the batch where the server batches.
    """

    folder: Path
    files: tuple[Path, ...]
    name: str
    max_batch_size: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        ports = {
            kind: [{"name": p.name, "data_type": p.data_type, "dims": list(p.dims)} for p in found]
            for kind, found in (("inputs", self.inputs), ("outputs", self.outputs))
        }
        return {
            "model": self.name,
            "folder": str(self.folder),
            "files": [str(file) for file in self.files],
            "max_batch_size": self.max_batch_size,
            **ports,
        }


def export_repository(
    path: Path,
    repository: Path,
    *,
    name: str | None = None,
    version: int = 1,
    max_batch_size: int = 8,
    labels: Path | None = None,
) -> Repository:
    """Writes a model into a repository; other models and other versions in it stay.

    Args:
        path: an `.onnx` model, with an input of images or of raw pixels.
        repository: the folder that the server is given; made if it does not exist.
        name: of the model; its file's without suffix when None.
        version: at least 1.
        max_batch_size: how many requests the server may put together, if the model takes any batch.
        labels: names of the classes, which the server then returns with them.

    Raises:
        InputError: the model cannot be read, a name or number cannot be used, or a file cannot be written.
        EngineError: ONNX Runtime cannot load the model.
    """
    model = load_model(path, named="")
    make_session(path, threads=1)
    # The repository gets one file: what refers to others would not find them there.
    content_bytes = serialize(model) if external_files(path) else path.read_bytes()
    name = require_plain(path.stem if name is None else name, "--name")
    for flag, value in (("model_version", version), ("max_batch_size", max_batch_size)):
        if value < 1:
            raise InputError(f"--{flag} {value}: give 1 or more")
    inputs, outputs = _ports(model)
    batches = all(port.dims[:1] == (_OPEN,) for port in (*inputs, *outputs))
    if batches:
        inputs, outputs = (
            [Port(p.name, p.data_type, p.dims[1:]) for p in ports] for ports in (inputs, outputs)
        )
    names = None if labels is None else read_labels(labels, _classes(outputs[0], batches))
    text = config_text(
        name,
        inputs,
        outputs,
        max_batch_size=max_batch_size if batches else 0,
        with_labels=names is not None,
    )
    folder = repository / name
    make_folder(folder / str(version))
    content = {folder / str(version) / "model.onnx": content_bytes}
    if names is not None:
        content[folder / LABELS] = "".join(f"{_one_line(label)}\n" for label in names).encode()
    for file, data in content.items():
        atomic_write_bytes(file, data)
    # Last: a server that polls the folder reads the configuration of a model that is there.
    atomic_write_text(folder / "config.pbtxt", text)
    files = (*content, folder / "config.pbtxt")
    return Repository(folder, files, name, max_batch_size if batches else 0, tuple(inputs), tuple(outputs))


def config_text(
    name: str, inputs: Sequence[Port], outputs: Sequence[Port], *, max_batch_size: int, with_labels: bool
) -> str:
    """The configuration in protobuf's text format.

    Args:
        name: of the model.
        inputs: without the batch, if the server batches.
        outputs: as the inputs; the first gets the labels.
        max_batch_size: 0 if the server does not batch.
        with_labels: whether there is a file of labels.
    """
    blocks = [
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        'platform: "onnxruntime_onnx"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {max_batch_size}",
        *(_block("input", port, ()) for port in inputs),
        *(
            _block(
                "output",
                port,
                (f"label_filename: {_quoted(LABELS)}",) if with_labels and not position else (),
            )
            for position, port in enumerate(outputs)
        ),
        "instance_group [\n  {\n    count: 1\n    kind: KIND_CPU\n  }\n]",
        *(["dynamic_batching { }"] if max_batch_size > 1 else []),
    ]
    return "\n".join(blocks) + "\n"


def _block(kind: str, port: Port, more: Sequence[str]) -> str:
    lines = [
        f"name: {_quoted(port.name)}",
        f"data_type: {port.data_type}",
        f"dims: [ {', '.join(map(str, port.dims))} ]",
        *more,
    ]
    inside = "\n".join(f"    {line}" for line in lines)
    return f"{kind} [\n  {{\n{inside}\n  }}\n]"


def _quoted(text: str) -> str:
    """A string of the text format: JSON's escapes are among its own, and what is ASCII needs no others."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else _escaped_bytes(text)


def _escaped_bytes(text: str) -> str:
    """Every byte of the UTF-8 form that is not plain ASCII, in octal."""
    plain = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{plain}"'


def _ports(model: onnx.ModelProto) -> tuple[list[Port], list[Port]]:
    initializers = GraphIndex(model.graph).initializers
    inputs = [value for value in model.graph.input if value.name not in initializers]
    return [_port(value) for value in inputs], [_port(value) for value in model.graph.output]


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        kind = element_type(tensor.elem_type)
        raise InputError(f"{value.name!r} is {kind}, which a server's configuration cannot say")
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else _OPEN
        for dim in tensor.shape.dim
    )
    return Port(value.name, _TYPES[tensor.elem_type], dims)


def _classes(port: Port, batches: bool) -> int | None:
    """How many scores one image gets; None where the model does not say."""
    dims = port.dims if batches else port.dims[1:]
    count = 1
    for extent in dims:
        count *= extent
    return count if dims and all(extent > 0 for extent in dims) else None


def _one_line(label: Label) -> str:
    name = printable(label.name)
    return f"{label.wnid} {name}" if label.wnid is not None else name
