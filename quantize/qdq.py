"""Writes the QDQ form of an integer model: `QuantizeLinear`/`DequantizeLinear` pairs around float operators.

For every quantized tensor `real ≈ (q - zero_point) · scale` (ONNX `QuantizeLinear`). Activations are uint8
with one scale per tensor; weights are int8, symmetric, with one scale per output channel; biases are int32
with `scale = activation scale · weight scale`, as integer convolutions accumulate them.

Written by us and not by the engine, whose writer casts weights without clipping, takes a scale of exactly 1
for a degenerate one, quantizes the scores, and leaves Add in fp32 in this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantize.errors import EngineError
from quantize.graph import GraphIndex, attribute, tensor_names, unique_name
from quantize.operators import Inventory, Operator
from quantize.placement import Placement, place
from quantize.target import WEIGHTED_OPERATORS, Target

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

_INT32_LIMIT = float((1 << 31) - 1)


@dataclass(frozen=True)
class ActivationScale:
    """Quantization of one activation tensor to uint8: `real = (q - zero_point) · scale`."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Plan:
    """Which operators become integers, and how.

    Attributes:
        operators: names of the integer operators -> whether their weights get one scale per output channel.
        scales: tensor name -> its scale and zero point; tensors of integer operators must have one.
    """

    operators: Mapping[str, bool]
    scales: Mapping[str, ActivationScale]


def write_qdq(model: onnx.ModelProto, inventory: Inventory, plan: Plan, target: Target) -> onnx.ModelProto:
    """Returns the QDQ model that `plan` describes; the argument is left alone.

    Raises:
        EngineError: a tensor of an integer operator has no scale.
    """
    chosen = {name: operator for name, operator in inventory.by_name().items() if name in plan.operators}
    placement = place(model.graph, inventory, chosen)
    missing = sorted(placement.quantized - placement.tied.keys() - plan.scales.keys())
    if missing:
        raise EngineError(f"no range was measured for tensor {missing[0]!r} ({len(missing)} in all)")
    return _Writer(model, plan, target, chosen, placement).write()


def quantize_weights(
    weights: FloatArray, limit: int, axis: int | None, least_scale: FloatArray | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.int8]], FloatArray]:
    """Rounds weights to symmetric integers in [-limit, limit].

    Args:
        weights: any rank.
        limit: largest magnitude; 64 for 7 bits, 127 for 8.
        axis: output channel axis for one scale per channel, None for one scale in all.
        least_scale: lower bounds of the scales, same shape as they; keeps int32 biases in range.

    Returns:
        int8 weights of the same shape and float32 scales, [channels] or a scalar.
    """
    axes = None if axis is None else tuple(other for other in range(weights.ndim) if other != axis)
    largest = np.abs(weights).max(axis=axes).astype(np.float64)
    scale = (largest / limit).astype(np.float32)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale.astype(np.float32))
    # A channel of zeros has no scale of its own; any serves, because all its integers are zero.
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1.0)).astype(np.float32)
    spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    rounded = np.rint(weights.astype(np.float64) / spread)
    return np.clip(rounded, -limit, limit).astype(np.int8), scale


@dataclass
class _Writer:
    """Builds the new graph node by node, in the order of the old one."""

    model: onnx.ModelProto
    plan: Plan
    target: Target
    chosen: Mapping[str, Operator]
    placement: Placement
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = GraphIndex(self.model.graph)
        self.taken = tensor_names(self.model.graph)

    def write(self) -> onnx.ModelProto:
        for value in self.model.graph.input:
            self._pair(value.name)
        absorbed = {operator.activation for operator in self.chosen.values()}
        for node in self.model.graph.node:
            if node.name in absorbed:
                continue
            operator = self.chosen.get(node.name)
            self.nodes.append(self._float(node) if operator is None else self._integer(node, operator))
            for output in node.output if operator is None else [operator.output]:
                self._pair(output)
        return self._assemble()

    def _assemble(self) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        graph = result.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        graph.initializer.extend(t for t in self.model.graph.initializer if t.name in used)
        graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in used)
        return result

    def _name(self, wanted: str, owner: str = "tensor") -> str:
        """The new tensor name for what `owner` calls `wanted`; the same answer each time, used by nothing else."""
        key = (owner, wanted)
        if key not in self.names:
            self.names[key] = unique_name(wanted, self.taken)
        return self.names[key]

    def _constant(self, wanted: str, value: np.ndarray[Any, Any], owner: str = "tensor") -> str:
        name = self._name(wanted, owner)
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def _raw(self, tensor: str) -> str:
        """The name under which an integer operator's float result is written, before its Q/DQ pair."""
        return self._name(f"{tensor}_raw") if tensor in self.index.outputs else tensor

    def _scale_names(self, tensor: str) -> list[str]:
        source = self.placement.tied.get(tensor, tensor)
        entry = self.plan.scales[source]
        return [
            self._constant(f"{source}_scale", np.float32(entry.scale)),
            self._constant(f"{source}_zero_point", np.uint8(entry.zero_point)),
        ]

    def _pair(self, tensor: str) -> None:
        """Appends the Q/DQ pair of a quantized tensor, right behind what made it."""
        if tensor not in self.placement.quantized:
            return
        raw = self._raw(tensor) if tensor in self.placement.integer_made else tensor
        if tensor in self.placement.barriers:
            # Without it ONNX Runtime would make an integer operator of what was left in fp32. A Max of one operand
            # is a copy that no optimizer removes.
            fenced = self._name(f"{tensor}_float")
            self.nodes.append(helper.make_node("Max", [raw], [fenced], f"{tensor}_float_barrier"))
            raw = fenced
        quantized, scales = self._name(f"{tensor}_quantized"), self._scale_names(tensor)
        self.nodes.append(helper.make_node("QuantizeLinear", [raw, *scales], [quantized], f"{tensor}_QuantizeLinear"))
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear", [quantized, *scales], [self._dequantized(tensor)], f"{tensor}_DequantizeLinear"
            )
        )

    def _dequantized(self, tensor: str) -> str:
        if tensor in self.index.outputs and tensor in self.placement.integer_made:
            return tensor
        return self._name(f"{tensor}_dequantized")

    def _float(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """An operator that stays float, or moves 8-bit data; it reads integers' results through their DQ."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        moves = node.name in self.placement.movement
        for position, name in enumerate(node.input):
            if name in self.placement.quantized and (moves or name in self.placement.integer_made):
                copy.input[position] = self._dequantized(name)
        if moves:
            copy.output[0] = self._raw(node.output[0])
        return copy

    def _integer(self, node: onnx.NodeProto, operator: Operator) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.output[0] = operator.output if operator.float_output else self._raw(operator.output)
        if node.op_type in WEIGHTED_OPERATORS:
            copy.input[0] = self._dequantized(node.input[0])
            self._weights(node, copy, operator)
            return copy
        for position, name in enumerate(node.input):
            copy.input[position] = self._dequantized(name)
        return copy

    def _weights(self, node: onnx.NodeProto, copy: onnx.NodeProto, operator: Operator) -> None:
        """Replaces the weights and the bias of `copy` by dequantized integers."""
        weights, bias = self._float_parameters(node)
        if node.op_type == "Gemm":
            _drop_attributes(copy, {"alpha", "beta"})  # folded into the parameters
        channel_axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
        axis = channel_axis if self.plan.operators[node.name] else None
        data = self._scale_names(node.input[0])[0]
        data_scale = np.float32(numpy_helper.to_array(self.constants[data]))
        least = None if bias is None else np.abs(bias) / np.float64(data_scale) / _INT32_LIMIT
        if least is not None and axis is None:
            least = least.max()
        limit = self.target.weight_limit(depthwise=operator.depthwise)
        integers, scale = quantize_weights(weights, limit, axis, least)
        copy.input[1] = self._dequantize(f"{node.name}_weight", integers, scale, np.int8, axis)
        if bias is not None:
            self._bias(copy, node, bias, np.float32(data_scale) * scale, axis)

    def _bias(
        self, copy: onnx.NodeProto, node: onnx.NodeProto, bias: FloatArray, scale: FloatArray, axis: int | None
    ) -> None:
        rounded = np.clip(np.rint(bias / scale.astype(np.float64)), -_INT32_LIMIT, _INT32_LIMIT)
        bias_axis = None if axis is None else 0
        copy.input[2] = self._dequantize(f"{node.name}_bias", rounded.astype(np.int32), scale, np.int32, bias_axis)

    def _float_parameters(self, node: onnx.NodeProto) -> tuple[FloatArray, FloatArray | None]:
        """Weights and bias [channels] in float32, with Gemm's factors multiplied in."""
        weights = self.index.array(node.input[1])
        bias = self.index.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if weights is None:
            raise EngineError(f"operator {node.name!r} has no constant weights")
        if node.op_type == "Gemm":
            weights = weights * np.float32(attribute(node, "alpha", 1.0))
            if bias is not None:
                channels = weights.shape[0 if attribute(node, "transB", 0) else 1]
                bias = np.broadcast_to((bias * np.float32(attribute(node, "beta", 1.0))).reshape(-1), (channels,))
        return weights.astype(np.float32), None if bias is None else bias.astype(np.float32)

    def _dequantize(
        self, name: str, integers: np.ndarray[Any, Any], scale: FloatArray, kind: type, axis: int | None
    ) -> str:
        """Adds a constant with its `DequantizeLinear`; returns the name of the dequantized tensor."""
        inputs = [
            self._constant(f"{name}_quantized", integers, "parameter"),
            self._constant(f"{name}_scale", scale, "parameter"),
            self._constant(f"{name}_zero_point", np.zeros(scale.shape, dtype=kind), "parameter"),
        ]
        output = self._name(f"{name}_dequantized", "parameter")
        options = {} if axis is None else {"axis": axis}
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [output], f"{name}_DequantizeLinear", **options))
        return output


def _drop_attributes(node: onnx.NodeProto, names: set[str]) -> None:
    kept = [entry for entry in node.attribute if entry.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
