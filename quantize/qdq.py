"""Writes the QDQ form of an integer model: `QuantizeLinear`/`DequantizeLinear` pairs around float operators.

For every quantized tensor `real ≈ (q - zero_point) · scale` (ONNX `QuantizeLinear`). Activations are uint8,
or symmetric int8 where the target wants that, with one scale per tensor; weights and biases are as in
`quantize.weights`.

Written by us and not by the engine, whose writer casts weights without clipping, takes a scale of exactly 1
for a degenerate one, quantizes the scores, and leaves Add in fp32 in this form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from quantize.errors import EngineError
from quantize.graph import GraphIndex, opset_of
from quantize.node_writer import NodeWriter
from quantize.operators import Inventory, Operator, clip_bounds
from quantize.placement import LOOKED_THROUGH, Placement, place
from quantize.scales import ActivationScale
from quantize.target import WEIGHTED_OPERATORS, Target
from quantize.weights import Parameters, RoundedWeights, quantize_parameters

# Since this opset, QuantizeLinear has the attribute output_dtype.
_OUTPUT_DTYPE_OPSET = 21


@dataclass(frozen=True)
class Plan:
    """Which operators become integers, and how.

    Attributes:
        operators: names of the integer operators -> whether their weights get one scale per output channel.
        scales: tensor name -> its scale and zero point; tensors of integer operators must have one.
        parameters: operator name -> its integers, where they are more than the fp32 weights rounded to the
            nearest.
        padding: convolution -> input channels of zeros that are added to it and to what it reads.
    """

    operators: Mapping[str, bool]
    scales: Mapping[str, ActivationScale]
    parameters: Mapping[str, Parameters] = field(default_factory=dict)
    padding: Mapping[str, int] = field(default_factory=dict)


def write_qdq(
    model: onnx.ModelProto,
    inventory: Inventory,
    plan: Plan,
    target: Target,
    *,
    known: RoundedWeights | None = None,
) -> onnx.ModelProto:
    """Returns the QDQ model that `plan` describes; the argument is left alone.

    Args:
        model: prepared fp32 model.
        inventory: its operators.
        plan: what becomes of them.
        target: the deployment's kernels.
        known: weights of this model that were rounded before, for whoever writes many.

    Raises:
        EngineError: a tensor of an integer operator has no scale, or an operator cannot be an integer.
    """
    chosen = {name: operator for name, operator in inventory.by_name().items() if name in plan.operators}
    unknown = sorted(plan.operators.keys() - chosen.keys())
    if unknown:
        raise EngineError(f"operator {unknown[0]!r} cannot be an integer operator of this model")
    placement = place(model.graph, inventory, chosen)
    scales = _settled(GraphIndex(model.graph), chosen, placement, plan.scales)
    return _Writer(model, plan, target, chosen, placement, scales, known).write()


def settled_scales(
    model: onnx.ModelProto,
    inventory: Inventory,
    operators: Iterable[str],
    scales: Mapping[str, ActivationScale],
) -> dict[str, ActivationScale]:
    """The scale that each quantized tensor gets when these operators are integers.

    Tensors that only data movement lies between share one, and none reaches beyond the Relu or Clip that its
    saturation stands for.

    Raises:
        EngineError: a tensor of an integer operator has no scale.
    """
    chosen = {name: inventory.by_name()[name] for name in operators}
    return _settled(GraphIndex(model.graph), chosen, place(model.graph, inventory, chosen), scales)


def _settled(
    index: GraphIndex,
    chosen: Mapping[str, Operator],
    placement: Placement,
    scales: Mapping[str, ActivationScale],
) -> dict[str, ActivationScale]:
    missing = sorted(placement.quantized - placement.tied.keys() - scales.keys())
    if missing:
        raise EngineError(f"no range was measured for tensor {missing[0]!r} ({len(missing)} in all)")
    by_name = {node.name: node for node in index.graph.node}
    activations = {o.output: by_name[o.activation] for o in chosen.values() if o.activation is not None}
    settled = {}
    for tensor in placement.quantized:
        source = placement.tied.get(tensor, tensor)
        bounds = clip_bounds(activations[source], index) if source in activations else None
        settled[tensor] = scales[source] if bounds is None else scales[source].within(*bounds)
    return settled


@dataclass
class _Writer:
    """Builds the new graph node by node, in the order of the old one."""

    model: onnx.ModelProto
    plan: Plan
    target: Target
    chosen: Mapping[str, Operator]
    placement: Placement
    scales: Mapping[str, ActivationScale]
    known: RoundedWeights | None

    def __post_init__(self) -> None:
        self.index = GraphIndex(self.model.graph)
        self.new = NodeWriter(self.model)
        # Saturation of symmetric int8 lets negative numbers through, so that a Relu or Clip has to stay.
        self.folds = not self.target.signed_activations
        # ONNX Runtime 1.32 moves an int8 DequantizeLinear through such operators and, from opset 21 on, puts
        # a QuantizeLinear behind them whose output_dtype (INT8) contradicts its zero point, made uint8.
        self.stops_movement = self.target.signed_activations and opset_of(self.model) >= _OUTPUT_DTYPE_OPSET

    def write(self) -> onnx.ModelProto:
        for value in self.model.graph.input:
            self._pair(value.name)
        behind = {o.activation: o.output for o in self.chosen.values() if o.activation is not None}
        for node in self.model.graph.node:
            if node.name in behind:
                if not self.folds:
                    self.new.nodes.append(self._renamed(node, behind[node.name]))
                    self._pair(behind[node.name])
                continue
            operator = self.chosen.get(node.name)
            self.new.nodes.append(self._float(node) if operator is None else self._integer(node, operator))
            # Where an activation stays, the pair follows it instead.
            done = operator is None or self.folds or operator.activation is None
            for output in node.output if operator is None else [operator.output] * done:
                self._pair(output)
        return self.new.assembled()

    def _raw(self, tensor: str) -> str:
        """The name under which an integer operator's float result is written, before its Q/DQ pair."""
        return self.new.name(f"{tensor}_raw") if tensor in self.index.outputs else tensor

    def _scale_names(self, tensor: str) -> list[str]:
        source = self.placement.tied.get(tensor, tensor)
        entry = self.scales[tensor]
        return [
            self.new.constant(f"{source}_scale", np.asarray(entry.scale, dtype=np.float32)),
            self.new.constant(f"{source}_zero_point", np.asarray(entry.zero_point, dtype=entry.dtype)),
        ]

    def _pair(self, tensor: str) -> None:
        """Appends the Q/DQ pair of a quantized tensor, right behind what made it."""
        if tensor not in self.placement.quantized:
            return
        raw = self._raw(tensor) if tensor in self.placement.integer_made else tensor
        if tensor in self.placement.barriers:
            raw = self.new.fence(raw, f"{tensor}_float")
        quantized, scales = self.new.name(f"{tensor}_quantized"), self._scale_names(tensor)
        self.new.append("QuantizeLinear", [raw, *scales], quantized)
        self.new.append("DequantizeLinear", [quantized, *scales], self._dequantized(tensor))

    def _dequantized(self, tensor: str) -> str:
        if tensor in self.index.outputs and tensor in self.placement.integer_made:
            return tensor
        return self.new.name(f"{tensor}_dequantized")

    def _float(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """An operator that stays float, or moves 8-bit data; it reads integers' results through their DQ."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        moves = node.name in self.placement.movement
        for position, name in enumerate(node.input):
            if name in self.placement.quantized and (moves or name in self.placement.integer_made):
                copy.input[position] = self._dequantized(name)
        moved = self.stops_movement and not moves and node.op_type in LOOKED_THROUGH
        if node.name in self.placement.products or (moved and node.input[0] in self.placement.integer_made):
            copy.input[0] = self.new.fence(copy.input[0], f"{node.name}_float")
        if moves:
            copy.output[0] = self._raw(node.output[0])
        return copy

    def _renamed(self, node: onnx.NodeProto, output: str) -> onnx.NodeProto:
        """A node whose result is not quantized yet; what it reads keeps its name."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.output[0] = self._raw(output)
        return copy

    def _integer(self, node: onnx.NodeProto, operator: Operator) -> onnx.NodeProto:
        copy = self._renamed(node, operator.output)
        if operator.float_output:
            copy.output[0] = operator.output
        elif operator.activation is not None and not self.folds:
            copy.output[0] = operator.raw_output
        if node.op_type in WEIGHTED_OPERATORS:
            copy.input[0] = self._data(node)
            self._weights(node, copy, operator)
            return copy
        for position, name in enumerate(node.input):
            copy.input[position] = self._dequantized(name)
        return copy

    def _data(self, node: onnx.NodeProto) -> str:
        """What a weighted operator reads, dequantized, with channels of zeros where they are wanted.

        They are added to the integers, as so many zero points: the operator computes the same.
        """
        tensor, extra = node.input[0], self.plan.padding.get(node.name, 0)
        if not extra:
            return self._dequantized(tensor)
        rank = len(self.index.initializers[node.input[1]].dims)
        pads = np.zeros(2 * rank, dtype=np.int64)
        pads[rank + 1] = extra
        scales = self._scale_names(tensor)
        padded, result = (
            self.new.name(f"{node.name}_input_{kind}", "padding") for kind in ("padded", "float")
        )
        amounts = self.new.constant(f"{node.name}_input_pads", pads, "padding")
        self.new.append("Pad", [self.new.name(f"{tensor}_quantized"), amounts, scales[1]], padded)
        self.new.append("DequantizeLinear", [padded, *scales], result)
        return result

    def _weights(self, node: onnx.NodeProto, copy: onnx.NodeProto, operator: Operator) -> None:
        """Replaces the weights and the bias of `copy` by dequantized integers."""
        if node.op_type == "Gemm":
            _drop_attributes(copy, {"alpha", "beta"})  # they are multiplied into the integers
        found = self.plan.parameters.get(node.name) or quantize_parameters(
            node,
            self.index,
            data_scale=self.scales[node.input[0]].scale,
            limit=self.target.weight_limit(depthwise=operator.depthwise),
            per_channel=self.plan.operators[node.name] and node.op_type in self.target.per_channel_operators,
            known=self.known,
        )
        weights = found.weights
        if extra := self.plan.padding.get(node.name, 0):
            weights = np.pad(weights, [(0, extra if axis == 1 else 0) for axis in range(weights.ndim)])
        copy.input[1] = self.new.dequantized_constant(f"{node.name}_weight", weights, found.scale, found.axis)
        if found.bias is None:
            return
        if not self.target.integer_bias:
            bias = (found.bias * found.bias_scale.astype(np.float64)).astype(np.float32)
            name = self.new.constant(f"{node.name}_bias", bias, "parameter")
        else:
            bias_axis = None if found.axis is None else 0
            name = self.new.dequantized_constant(f"{node.name}_bias", found.bias, found.bias_scale, bias_axis)
        del copy.input[2:]
        copy.input.append(name)


def _drop_attributes(node: onnx.NodeProto, names: set[str]) -> None:
    kept = [entry for entry in node.attribute if entry.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
