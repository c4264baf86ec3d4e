"""Which operators run as integer kernels, read from the graph that ONNX Runtime itself will run.

What a file says and what runs are two things: Q/DQ pairs around an operator may or may not be fused, and
float operators may be quantized behind our back. So the optimized graph is the witness, never the artefact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from quantize.errors import EngineError
from quantize.graph import GraphIndex
from quantize.scratch import temporary_folder
from quantize.session import make_session

# What an operator computes on, or moves; "neither" is for shapes and the like.
Precision = Literal["integer", "float", "quantize", "dequantize", "neither"]

# Multiply-accumulate operators, the ones that int8 is for. In ONNX Runtime's spelling, whatever their domain:
# ai.onnx, com.microsoft, com.microsoft.nchwc and com.ms.internal.nhwc use the same names.
FLOAT_WEIGHTED = frozenset(
    {
        "Conv",
        "FusedConv",
        "ConvTranspose",
        "Gemm",
        "FusedGemm",
        "MatMul",
        "FusedMatMul",
        "NhwcFusedConv",
        "GemmFloat8",
        "Attention",
        "MultiHeadAttention",
    }
)
INTEGER_WEIGHTED = frozenset(
    {
        "QLinearConv",
        "ConvInteger",
        "QGemm",
        "QLinearMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QLinearConvTranspose",
        "QAttention",
    }
)
_TO_INTEGER = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
_TO_FLOAT = frozenset({"DequantizeLinear"})
# Operators whose output has the type of their first input, so that they run on bytes wherever bytes flow in.
_TYPE_AGNOSTIC = frozenset(
    {
        "MaxPool",
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "Pad",
        "Identity",
        "Clip",
        "Relu",
        "Resize",
        "DepthToSpace",
        "SpaceToDepth",
        "Expand",
        "Tile",
        "NhwcMaxPool",
        "ReorderInput",
        "ReorderOutput",
        "Max",
        "Min",
    }
)
_QUANTIZED = frozenset(
    {
        TensorProto.UINT8,
        TensorProto.INT8,
        TensorProto.UINT16,
        TensorProto.INT16,
        TensorProto.UINT4,
        TensorProto.INT4,
    }
)
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})


@dataclass(frozen=True)
class Coverage:
    """What runs in integers and what in floats; operator type → how many."""

    integer: Mapping[str, int]
    """Kernels that compute on, or move, quantized tensors (mostly 8 bits)."""
    floating: Mapping[str, int]
    """Kernels that compute on, or move, float tensors."""
    quantize: int
    """QuantizeLinear operators left: one, at the image, in a fully fused model."""
    dequantize: int
    """DequantizeLinear operators left: one, before the output, in a fully fused model."""
    float_weighted_operators: tuple[str, ...]
    """Names of convolutions and matrix products that run in float, as ONNX Runtime names them."""
    declared_weighted: int = 0
    """Of the integer kernels, those spelled as float operators between Q and DQ (`declared_coverage`)."""

    @property
    def integer_weighted(self) -> int:
        """Convolutions and matrix products that run in integers."""
        fused = sum(count for kind, count in self.integer.items() if kind in INTEGER_WEIGHTED)
        return fused + self.declared_weighted

    @property
    def weighted(self) -> int:
        """Convolutions and matrix products in all."""
        return self.integer_weighted + len(self.float_weighted_operators)


def integer_coverage(model_path: str | Path, threads: int = 1) -> Coverage:
    """Counts what `optimized_model` gives; raises as it does."""
    return graph_coverage(optimized_model(model_path, threads).graph)


def optimized_model(
    model: str | Path | onnx.ModelProto, threads: int = 1, *, label: str | None = None
) -> onnx.ModelProto:
    """Let ONNX Runtime optimize the model as it does to run it.

    Args:
        model: an `.onnx` file, or what was read from it.
        threads: of the session, as in use.
        label: what to call a model in memory in messages.

    Raises:
        InputError: the file does not exist.
        EngineError: ONNX Runtime cannot load it, or its optimized graph cannot be read.
    """
    with temporary_folder("kernels") as folder:
        optimized_path = folder / "optimized.onnx"
        # "extended" is the furthest level whose graph can always be written: beyond it, only memory layouts
        # change, and layouts have no influence on what is integer.
        make_session(
            model, threads=threads, optimization="extended", optimized_path=optimized_path, label=label
        )
        try:
            return onnx.load(optimized_path)
        except Exception as error:  # the reader's failures have no common root
            called = label or (model if isinstance(model, str | Path) else "model in memory")
            raise EngineError(f"{called}: ONNX Runtime's optimized graph cannot be read: {error}") from error


def declared_coverage(graph: GraphProto) -> Coverage:
    """Count what a file in QDQ format asks to be run in integers, whatever ONNX Runtime makes of it here.

    For deployments that this machine only emulates: an operator counts as an integer one if everything that
    it computes with, its bias aside, comes from a DequantizeLinear.
    """
    index = GraphIndex(graph)
    integer: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    float_weighted: list[str] = []
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        weighted = node.op_type in FLOAT_WEIGHTED
        operands = node.input[:2] if weighted else [name for name in node.input if name in index.producer]
        makers = [index.producer.get(name) for name in operands]
        if makers and all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
            integer[node.op_type] += 1
            continue
        floating[node.op_type] += 1
        if weighted:
            float_weighted.append(node.name or node.output[0])
    kinds = Counter(node.op_type for node in graph.node)
    return Coverage(
        integer=dict(sorted(integer.items())),
        floating=dict(sorted(floating.items())),
        quantize=kinds["QuantizeLinear"],
        dequantize=kinds["DequantizeLinear"],
        float_weighted_operators=tuple(float_weighted),
        declared_weighted=sum(count for kind, count in integer.items() if kind in FLOAT_WEIGHTED),
    )


def graph_coverage(graph: GraphProto) -> Coverage:
    """Count kernels in an optimized graph whose nodes are in topological order, as ONNX demands."""
    integer: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    boundary: Counter[str] = Counter()
    float_weighted: list[str] = []
    for node, precision in precisions(graph):
        if precision in ("quantize", "dequantize"):
            boundary[precision] += 1
        elif precision == "integer":
            integer[node.op_type] += 1
        elif precision == "float":
            floating[node.op_type] += 1
            if node.op_type in FLOAT_WEIGHTED:
                float_weighted.append(node.name or node.output[0])
    return Coverage(
        integer=dict(sorted(integer.items())),
        floating=dict(sorted(floating.items())),
        quantize=boundary["quantize"],
        dequantize=boundary["dequantize"],
        float_weighted_operators=tuple(float_weighted),
    )


def precisions(graph: GraphProto) -> Iterator[tuple[NodeProto, Precision]]:
    """What each operator of an optimized graph computes on, in the graph's order."""
    types = _known_types(graph)
    for node in graph.node:
        taken = _input_types(node, types)
        _propagate(node, types)
        if node.op_type in _TO_INTEGER:
            yield node, "quantize"
        elif node.op_type in _TO_FLOAT:
            yield node, "dequantize"
        elif _is_integer(node, taken):
            yield node, "integer"
        else:
            yield node, "float" if taken & _FLOATS else "neither"


def _is_integer(node: NodeProto, taken: frozenset[int]) -> bool:
    if node.op_type.startswith("QLinear") or node.op_type in INTEGER_WEIGHTED:
        return True
    return bool(taken & _QUANTIZED) and not taken & _FLOATS


def _input_types(node: NodeProto, types: Mapping[str, int]) -> frozenset[int]:
    """Element types of the inputs, except a Resize's or Clip's float parameters beside a byte tensor."""
    names: Iterable[str] = node.input[:1] if node.op_type in _TYPE_AGNOSTIC else node.input
    return frozenset(types[name] for name in names if name in types)


def _known_types(graph: GraphProto) -> dict[str, int]:
    types = {item.name: item.data_type for item in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type:
            types[value.name] = value.type.tensor_type.elem_type
    return types


def _propagate(node: NodeProto, types: dict[str, int]) -> None:
    """Give the outputs a type where the file states none, which ONNX Runtime does for what it has fused."""
    found: int | None
    if node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear"):
        found = next(
            (types[name] for name in reversed(node.input) if types.get(name) in _QUANTIZED), TensorProto.UINT8
        )
    elif node.op_type == "QGemm":
        # Inputs: A, a_scale, a_zero_point, B, b_scale, b_zero_point, C, y_scale, y_zero_point; without y_*,
        # float.
        with_output_type = len(node.input) == 9 and bool(node.input[8])
        found = types.get(node.input[8]) if with_output_type else TensorProto.FLOAT
    elif node.op_type in FLOAT_WEIGHTED | _TO_FLOAT | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"}:
        found = TensorProto.FLOAT
    elif node.op_type == "DynamicQuantizeLinear":
        found = TensorProto.UINT8
    elif node.op_type in {"ConvInteger", "MatMulInteger"}:
        found = TensorProto.INT32
    else:
        found = types.get(node.input[0]) if node.input else None
    for name in node.output[:1]:
        if name and found is not None:
            types.setdefault(name, found)
