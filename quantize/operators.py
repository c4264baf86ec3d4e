"""Finds the operators of a prepared fp32 graph that can run as integers, and says why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from quantize.graph import GraphIndex, attribute, element_type, tensors_read
from quantize.target import MOVEMENT_OPERATORS, WEIGHTED_OPERATORS, Target

# They clip, which saturation to uint8 does for free when it follows.
_ACTIVATIONS = frozenset({"Relu", "Clip"})

# Weighted operators whose integer kernel can return floats, so that scores keep their resolution.
_FLOAT_OUTPUT = frozenset({"Gemm", "MatMul"})

_REAL_TYPES = frozenset(
    {
        onnx.TensorProto.UNDEFINED,  # an operator that shape inference does not know is listed, to be safe
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
    }
)


@dataclass(frozen=True)
class Operator:
    """One operator that can run as an integer kernel, with the activation that its saturation absorbs.

    Attributes:
        name, op_type: of the node.
        inputs: tensors that it reads as activations (not weights).
        raw_output: the tensor that the node itself makes.
        output: the tensor after the absorbed Relu or Clip; `raw_output` where there is none.
        activation: the name of the absorbed Relu or Clip, or None.
        weighted: whether it multiplies with constant weights.
        depthwise: whether it is a convolution of one input and one output channel per group.
        float_output: its scores stay float32, because no weighted operator follows.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    raw_output: str
    output: str
    activation: str | None
    weighted: bool
    depthwise: bool
    float_output: bool

    @property
    def tensors(self) -> tuple[str, ...]:
        """The activation tensors that need a scale when this operator is an integer."""
        return self.inputs if self.float_output else (*self.inputs, self.output)


@dataclass(frozen=True)
class FloatOperator:
    """An operator that stays in fp32, and why.

    Attributes:
        name: of the node.
        op_type: of the node.
        reason: one clause.
        fallback: whether it could be an integer, and was left in fp32 by the configuration or the search.
    """

    name: str
    op_type: str
    reason: str
    fallback: bool = False


@dataclass(frozen=True)
class Inventory:
    """The operators of one graph: those that can be integers, that cannot, and that only move data.

    Operators on other numbers than floats (shapes, indices) are none of them. `float_scores` says whether
    everything behind the last weighted operator stays float.
    """

    quantizable: tuple[Operator, ...]
    floating: tuple[FloatOperator, ...]
    movement: tuple[str, ...]
    float_scores: bool = True

    def by_name(self) -> Mapping[str, Operator]:
        """Operator name -> operator."""
        return {operator.name: operator for operator in self.quantizable}

    def weighted_count(self) -> int:
        """How many convolutions and matrix products can be integers."""
        return sum(operator.weighted for operator in self.quantizable)


def take_inventory(model: onnx.ModelProto, target: Target) -> Inventory:
    """Sorts every node of a prepared model; absorbed activations belong to their operator."""
    index = GraphIndex(model.graph)
    before_weights = tensors_before_weights(model.graph)
    if not target.float_scores:
        before_weights |= {name for node in model.graph.node for name in node.output}
    quantizable: list[Operator] = []
    floating: list[FloatOperator] = []
    movement: list[str] = []
    absorbed: set[str] = set()
    for node in model.graph.node:
        if node.name in absorbed or _works_on_shapes(node, index):
            continue
        reason = _why_float(node, index, target, before_weights)
        if reason is not None:
            floating.append(FloatOperator(node.name, node.op_type, reason))
        elif node.op_type in MOVEMENT_OPERATORS:
            movement.append(node.name)
        else:
            operator = _operator(node, index, before_weights)
            quantizable.append(operator)
            if operator.activation is not None:
                absorbed.add(operator.activation)
    return Inventory(tuple(quantizable), tuple(floating), tuple(movement), target.float_scores)


def _works_on_shapes(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether a node makes integers or truth values only, as the arithmetic on shapes does."""
    types = [index.element_types.get(name, onnx.TensorProto.FLOAT) for name in node.output if name]
    return bool(types) and not any(kind in _REAL_TYPES for kind in types)


def _why_float(
    node: onnx.NodeProto, index: GraphIndex, target: Target, before_weights: frozenset[str]
) -> str | None:
    """The reason why a node cannot be an integer operator; None if it can, or only moves data."""
    if node.op_type not in target.integer_operators or node.domain not in ("", "ai.onnx"):
        runtime = "ONNX Runtime" if target.on_cpu else target.name
        return f"{runtime} has no integer kernel for {node.op_type}"
    kind = index.element_types.get(node.output[0], onnx.TensorProto.FLOAT)
    if kind != onnx.TensorProto.FLOAT:
        return f"it computes {element_type(kind)}, not float32"
    if node.output[0] in index.read_inside:
        return "a branch or loop reads its result"
    if node.op_type in WEIGHTED_OPERATORS:
        return _why_weights_stay_float(node, index) or _why_bias_stays_float(node, index)
    if node.op_type in MOVEMENT_OPERATORS:
        return "it returns indices as well" if len(node.output) > 1 and node.output[1] else None
    return _why_arithmetic_stays_float(node, index, before_weights)


def _why_arithmetic_stays_float(
    node: onnx.NodeProto, index: GraphIndex, before_weights: frozenset[str]
) -> str | None:
    """The reason why an operator without weights cannot be an integer operator, or None."""
    if node.output[0] not in before_weights:
        return "no weighted operator follows: scores keep their resolution in fp32"
    if any(name in index.initializers or not name for name in node.input):
        return "one operand is a constant"
    if node.op_type == "AveragePool" and any(step != 1 for step in attribute(node, "dilations", ())):
        return "the integer AveragePool has no dilations"
    return None


def _why_weights_stay_float(node: onnx.NodeProto, index: GraphIndex) -> str | None:
    """The reason why the operands of a Conv, Gemm or MatMul do not suit its integer kernel, or None."""
    weights = index.array(node.input[1])
    if weights is None:
        return "its weights are not constant"
    checks = (
        (node.input[0] in index.initializers, "its data input is a constant"),
        (weights.dtype != np.float32, f"its weights are {weights.dtype}"),
        (not np.all(np.isfinite(weights)), "its weights are not finite"),
        (node.op_type != "Conv" and weights.ndim != 2, f"its weights have rank {weights.ndim}, not 2"),
        (node.op_type == "Gemm" and attribute(node, "transA", 0) != 0, "its data input is transposed"),
    )
    return next((reason for found, reason in checks if found), None)


def _why_bias_stays_float(node: onnx.NodeProto, index: GraphIndex) -> str | None:
    """The reason why the bias of a Conv or Gemm is none of int32 per output channel, or None."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    bias = index.array(node.input[2])
    if bias is None:
        return "its bias is not constant"
    if not np.all(np.isfinite(bias)):
        return "its bias is not finite"
    if bias.ndim > 1 and bias.shape[0] != 1:  # only a Gemm can have such a one
        return "its bias differs from image to image"
    return None


def _operator(node: onnx.NodeProto, index: GraphIndex, before_weights: frozenset[str]) -> Operator:
    weighted = node.op_type in WEIGHTED_OPERATORS
    activation = _absorbable_activation(node.output[0], index)
    output = node.output[0] if activation is None else activation.output[0]
    float_output = node.op_type in _FLOAT_OUTPUT and output not in before_weights
    if float_output:
        activation, output = None, node.output[0]
    return Operator(
        name=node.name,
        op_type=node.op_type,
        inputs=tuple(dict.fromkeys(node.input[:1] if weighted else node.input)),
        raw_output=node.output[0],
        output=output,
        activation=None if activation is None else activation.name,
        weighted=weighted,
        depthwise=is_depthwise(node, index),
        float_output=float_output,
    )


def is_depthwise(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether a node is a convolution with one input and one output channel per group."""
    if node.op_type != "Conv":
        return False
    weights = index.initializers[node.input[1]]
    groups = int(attribute(node, "group", 1))
    return groups > 1 and weights.dims[1] == 1 and weights.dims[0] == groups


def _absorbable_activation(tensor: str, index: GraphIndex) -> onnx.NodeProto | None:
    """The Relu or Clip that is the only reader of `tensor`, if zero lies within its bounds."""
    readers: Sequence[onnx.NodeProto] = index.readers(tensor)
    if len(readers) != 1 or tensor in index.outputs or readers[0].op_type not in _ACTIVATIONS:
        return None
    bounds = clip_bounds(readers[0], index)
    if bounds is None or bounds[0] >= bounds[1] or readers[0].output[0] in index.read_inside:
        return None
    # The quantized range always includes zero, so bounds that exclude it would not be kept by saturation.
    return readers[0] if bounds[0] <= 0.0 <= bounds[1] else None


def clip_bounds(node: onnx.NodeProto, index: GraphIndex) -> tuple[float, float] | None:
    """The bounds that a Relu or Clip (opset >= 11) keeps its output in; None if they are no constants."""
    low, high = -np.inf, np.inf
    if node.op_type == "Relu":
        return 0.0, float(high)
    for position, name in enumerate(node.input[1:3]):
        if not name:
            continue
        value = index.array(name)
        if value is None or value.size != 1:
            return None
        low, high = (float(value.item()), high) if position == 0 else (low, float(value.item()))
    return float(low), float(high)


def tensors_before_weights(graph: onnx.GraphProto) -> frozenset[str]:
    """Returns the tensors from which some weighted operator's data input can still be reached."""
    reached: set[str] = set()
    for node in reversed(graph.node):  # an ONNX graph is sorted topologically
        if node.op_type in WEIGHTED_OPERATORS:
            reached.update(node.input[:1])
        if any(name in reached for name in node.output):
            reached.update(tensors_read(node))
    return frozenset(reached)
