"""What an ONNX file holds, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantize.errors import EngineError
from quantize.files import sha256_of_file
from quantize.graph import GraphIndex, element_type, opset_of, tensors_read
from quantize.kernels import Coverage, Precision, graph_coverage, optimized_model, precisions
from quantize.model import load_model


@dataclass(frozen=True)
class Port:
    """An input or output; `shape` holds numbers, names of open extents, and "?" for those without a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Layer:
    """An operator that has constants of its own.

    Attributes:
        name, op_type: of the operator.
        dtype: of its largest constant, the weights.
        size_bytes: of its constants; what several operators share counts for the first.
    """

    name: str
    op_type: str
    dtype: str
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "operator": self.op_type,
            "dtype": self.dtype,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True)
class RunOperator:
    """An operator as ONNX Runtime will run it, fused ones under the name it gives them."""

    name: str
    op_type: str
    precision: Precision

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"name": self.name, "operator": self.op_type, "precision": self.precision}


@dataclass(frozen=True)
class ModelFacts:
    """One file.

    Attributes:
        path, sha256, size_bytes: the file.
        ir_version, producer: what it says of itself.
        opsets: domain → version; the default domain is "ai.onnx".
        inputs, outputs: initializers are not inputs.
        metadata: key → value, provenance included.
        operators: operator type, with its domain if it is not ONNX's own → how many the file has.
        layers: in graph order.
        runs: every operator that will run, in order; empty if ONNX Runtime cannot load the file.
        coverage: what runs in integers and what in floats; None if ONNX Runtime cannot load the file.
        problem: why it cannot; empty if it can.
    """

    path: Path
    sha256: str
    size_bytes: int
    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]
    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    runs: tuple[RunOperator, ...]
    coverage: Coverage | None
    problem: str = ""

    @property
    def constants_bytes(self) -> int:
        """What all weights, biases and scales take."""
        return sum(layer.size_bytes for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "file": {"path": str(self.path), "sha256": self.sha256, "size_bytes": self.size_bytes},
            "ir_version": self.ir_version,
            "producer": self.producer,
            "opsets": dict(self.opsets),
            "inputs": [port.to_json() for port in self.inputs],
            "outputs": [port.to_json() for port in self.outputs],
            "operators": dict(self.operators),
            "runtime": None if self.coverage is None else _coverage_json(self.coverage, self.runs),
            "runtime_problem": self.problem or None,
            "metadata": dict(self.metadata),
            "constants_bytes": self.constants_bytes,
            "layers": [layer.to_json() for layer in self.layers],
        }


def inspect_model(path: Path) -> tuple[ModelFacts, onnx.ModelProto]:
    """Reads a file, and lets ONNX Runtime optimize it as it does to run it.

    Returns:
        The facts, and the model itself for further questions.

    Raises:
        InputError: the file is missing or is not a valid ONNX model.
    """
    model = load_model(path, named="")
    index = GraphIndex(model.graph)
    coverage: Coverage | None = None
    runs: tuple[RunOperator, ...] = ()
    problem = ""
    try:
        graph = optimized_model(path).graph
        coverage, runs = graph_coverage(graph), _runs(graph)
    except EngineError as error:  # a file that does not run is all the more worth looking into
        problem = str(error)
    inputs = [value for value in model.graph.input if value.name not in index.initializers]
    facts = ModelFacts(
        path=path,
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={"ai.onnx": opset_of(model)}
        | {
            entry.domain: entry.version for entry in model.opset_import if entry.domain not in ("", "ai.onnx")
        },
        inputs=tuple(map(_port, inputs)),
        outputs=tuple(map(_port, model.graph.output)),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        operators=_operators(model.graph),
        layers=_layers(index),
        runs=runs,
        coverage=coverage,
        problem=problem,
    )
    return facts, model


def _operators(graph: onnx.GraphProto) -> dict[str, int]:
    names = [
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for node in graph.node
    ]
    return dict(sorted(Counter(names).items()))


def _port(value: onnx.ValueInfoProto) -> Port:
    dims: list[Any] = list(value.type.tensor_type.shape.dim)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)
    return Port(value.name, element_type(value.type.tensor_type.elem_type), shape)


def _layers(index: GraphIndex) -> tuple[Layer, ...]:
    """Constants belong to the operator that reads them, if need be through the `DequantizeLinear` between."""
    counted: set[str] = set()
    behind: dict[str, list[onnx.TensorProto]] = {}
    layers = []
    for node in index.graph.node:
        names = tensors_read(node)
        tensors = [
            index.initializers[name] for name in names if name in index.initializers and name not in counted
        ]
        counted.update(tensor.name for tensor in tensors)
        if node.op_type == "DequantizeLinear" and node.input[0] in index.initializers:
            behind[node.output[0]] = tensors
            continue
        tensors += [tensor for name in names for tensor in behind.pop(name, [])]
        if tensors:
            layers.append(_layer(node, tensors))
    return tuple(layers)


def _layer(node: onnx.NodeProto, tensors: list[onnx.TensorProto]) -> Layer:
    largest = max(tensors, key=_size_bytes)
    return Layer(
        node.name or node.output[0],
        node.op_type,
        element_type(largest.data_type),
        sum(map(_size_bytes, tensors)),
    )


def _size_bytes(tensor: onnx.TensorProto) -> int:
    """Of the values, however the file stores them."""
    count = 1
    for extent in tensor.dims:
        count *= extent
    try:
        return int(count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError):  # strings have no size of their own
        return int(tensor.ByteSize())


def _runs(graph: onnx.GraphProto) -> tuple[RunOperator, ...]:
    return tuple(
        RunOperator(node.name or node.output[0], node.op_type, precision)
        for node, precision in precisions(graph)
    )


def _coverage_json(coverage: Coverage, runs: Sequence[RunOperator]) -> dict[str, Any]:
    return {
        "integer_operators": dict(coverage.integer),
        "float_operators": dict(coverage.floating),
        "integer_weighted": coverage.integer_weighted,
        "weighted": coverage.weighted,
        "quantize": coverage.quantize,
        "dequantize": coverage.dequantize,
        "float_weighted_operators": list(coverage.float_weighted_operators),
        "operators": [operator.to_json() for operator in runs],
    }
