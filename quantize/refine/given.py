"""Reads a QDQ model that somebody else made of the same network: which operators are integers, and how.

Its weights and biases are of no interest: they are rounded anew, from fp32. Operators are matched by name,
and where an exporter or optimizer renamed them by their weights: dequantized, they are those of exactly one
fp32 operator, but for factors (`same_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantize.errors import InputError
from quantize.graph import GraphIndex
from quantize.operators import Operator
from quantize.ranges import RangeTable
from quantize.refine.network import Network
from quantize.refine.same_weights import GivenWeights, Likeness, likeness_of
from quantize.scales import ActivationScale, scale_maker
from quantize.target import WEIGHTED_OPERATORS

# The name of the rule "as the given model has it".
GIVEN = "given"

_ACTIVATIONS = frozenset({"Relu", "Clip"})

# What the operators that are looked into cannot do without.
_LEAST_INPUTS = {
    **dict.fromkeys(WEIGHTED_OPERATORS | {"QuantizeLinear", "DequantizeLinear"}, 2),
    **dict.fromkeys(_ACTIVATIONS, 1),
}

_EIGHT_BITS = (np.dtype(np.int8), np.dtype(np.uint8))

# Zero point of a uint8 tensor that holds what an int8 tensor with zero point 0 holds.
_SIGNED_OFFSET = 128


@dataclass(frozen=True)
class Given:
    """What a QDQ model says of the fp32 network.

    Attributes:
        operators: operators that are integers in it -> True, since one scale per channel costs nothing.
        scales: tensors of the fp32 network -> their scale in it, as the target takes it.
    """

    operators: Mapping[str, bool]
    scales: Mapping[str, ActivationScale]


@dataclass
class GivenRanges:
    """A table of ranges with one rule more: those of a given model, where it has any.

    Attributes:
        table: measured ranges.
        given: scales of the given model.
    """

    table: RangeTable
    given: Mapping[str, ActivationScale]

    def scale(self, tensor: str, rule: str) -> ActivationScale:
        """The scale of a tensor under a rule; tensors that the given model has in float are measured."""
        if rule != GIVEN:
            return self.table.scale(tensor, rule)
        found = self.given.get(tensor)
        return self.table.scale(tensor, "quantile") if found is None else found


def read_given(model: onnx.ModelProto, network: Network, *, name: str) -> Given:
    """Reads a QDQ model.

    Args:
        model: with Q/DQ pairs around its integer operators.
        network: the fp32 network that it was made of.
        name: of its file, for messages.

    Raises:
        InputError: it has no Q/DQ pairs, or is not made of this network.
    """
    if not any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise InputError(f"--start_from {name}: has no DequantizeLinear; give a model in QDQ format")
    for node in model.graph.node:  # the specification's checker has not seen it
        if len(node.input) < _LEAST_INPUTS.get(node.op_type, 0) or not node.output:
            raise InputError(
                f"--start_from {name}: {node.op_type} {node.name!r} lacks an input or output; export it again"
            )
    reader = _Reader(network, GraphIndex(model.graph))
    matches = reader.matches()
    if not matches:
        raise InputError(
            f"--start_from {name}: none of its operators has the weights of one of --input_model; give the "
            "fp32 model that it was made of"
        )
    scales = reader.scales(matches)
    operators = {
        operator.name: True
        for operator in network.inventory.quantizable
        if reader.is_integer(operator, matches) and all(tensor in scales for tensor in operator.tensors)
    }
    if not any(network.inventory.by_name()[one].weighted for one in operators):
        raise InputError(
            f"--start_from {name}: no Conv, Gemm or MatMul in it is an integer; give a quantized model"
        )
    return Given(operators, scales)


@dataclass(frozen=True)
class _Reader:
    """Finds the fp32 network's operators and tensors in another graph."""

    network: Network
    index: GraphIndex

    def matches(self) -> dict[str, onnx.NodeProto]:
        """fp32 weighted operator -> the node that stands for it."""
        found: dict[str, tuple[onnx.NodeProto, Likeness]] = {}
        candidates = self._candidates()
        all_of_them = len(candidates)
        for name, (_, geometry) in self.network.weighted.items():
            wanted = geometry.unpack(self.network.float_parameters(name, {})[0])
            for other in [name, *(other for other in candidates if other != name)]:
                node, weights = candidates.get(other, (None, None))
                how = None if weights is None else likeness_of(weights, wanted, geometry)
                if node is not None and how is not None:
                    found[name] = node, how
                    del candidates[other]
                    break
        # Factors hide where weights come from, so that one alike stem is not the same network.
        trusted = set(Likeness) if 2 * len(found) >= all_of_them else {Likeness.EQUAL}
        return {name: node for name, (node, how) in found.items() if how in trusted}

    def _candidates(self) -> dict[str, tuple[onnx.NodeProto, GivenWeights]]:
        """Name, or that of the result -> node with constant weights, and these."""
        found = {}
        for node in self.index.graph.node:
            weights = self._constant(node.input[1]) if node.op_type in WEIGHTED_OPERATORS else None
            if weights is not None:
                found[node.name or node.output[0]] = node, weights
        return found

    def is_integer(self, operator: Operator, matches: Mapping[str, onnx.NodeProto]) -> bool:
        """Whether an operator's node computes with integers, as far as nodes without weights can be told."""
        if operator.weighted:
            node = matches.get(operator.name)
            weights = None if node is None else self.index.producer.get(node.input[1])
            return weights is not None and weights.op_type == "DequantizeLinear"
        node = self._named.get(operator.name)
        # Whoever renames operators quantizes what lies between integers, or says so in no way that is known.
        if node is None or node.op_type != operator.op_type:
            return True
        return self._pair_behind(node.output[0]) is not None

    def scales(self, matches: Mapping[str, onnx.NodeProto]) -> dict[str, ActivationScale]:
        """Scales of the tensors that the matched operators read and make, and of those between them."""
        found: dict[str, ActivationScale] = {}
        for name, node in matches.items():
            operator, _ = self.network.weighted[name]
            read = self._pair_of(self.index.producer.get(node.input[0]))
            if read is not None:
                found.setdefault(operator.inputs[0], read)
            made = self._pair_behind(node.output[0])
            if made is not None and not operator.float_output:
                found[operator.output] = made
        unknown = {t for o in self.network.inventory.quantizable for t in o.tensors} - found.keys()
        for tensor in sorted(unknown):
            between = self._pair_behind(tensor, fences=True)
            if between is not None:
                found[tensor] = between
        return found

    @cached_property
    def _named(self) -> Mapping[str, onnx.NodeProto]:
        return {node.name: node for node in self.index.graph.node if node.name}

    def _pair_behind(self, tensor: str, *, fences: bool = False) -> ActivationScale | None:
        """The scale of the QuantizeLinear behind a result, its activation looked through.

        Args:
            tensor: in the given model.
            fences: whether to look through what keeps float operators from becoming integers.
        """
        for _ in self.index.graph.node:  # the chain of activations ends, a graph having no circles
            readers = self.index.readers(tensor)
            reader = next((r for r in readers if _is_looked_through(r, fences=fences)), None)
            if reader is None or reader.op_type == "QuantizeLinear":
                return self._pair_of(reader)
            tensor = reader.output[0]
        return None

    def _pair_of(self, node: onnx.NodeProto | None) -> ActivationScale | None:
        if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return None
        scale = self.index.array(node.input[1])
        zero_point = self.index.array(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
        if scale is None or zero_point is None or scale.size != 1 or zero_point.dtype not in _EIGHT_BITS:
            return None
        if zero_point.size != 1 or not 0 < float(scale.item()) < np.inf:
            return None
        offset = _SIGNED_OFFSET if zero_point.dtype == np.int8 else 0
        found = ActivationScale(float(scale.item()), int(zero_point.item()) + offset)
        if not self.network.target.signed_activations:
            return found
        return scale_maker(self.network.target)(*found.bounds)

    def _constant(self, tensor: str) -> GivenWeights | None:
        """The float value of a constant, dequantized where it is stored as integers."""
        node = self.index.producer.get(tensor)
        if node is None:
            values = self.index.array(tensor)
            return None if values is None else GivenWeights(values)
        if node.op_type != "DequantizeLinear":
            return None
        integers, scale = self.index.array(node.input[0]), self.index.array(node.input[1])
        zero_point = self.index.array(node.input[2]) if len(node.input) > 2 else None
        if integers is None or scale is None or integers.dtype.kind not in "iu":
            return None
        if not all(_fits(values, integers, node) for values in (scale, zero_point) if values is not None):
            return None
        centred = integers.astype(np.float32)
        if zero_point is not None:
            centred -= _along(zero_point, integers, node)
        axis = None if scale.size == 1 else _axis(node) % integers.ndim
        return GivenWeights(centred * _along(scale, integers, node), centred, axis)


def _is_looked_through(node: onnx.NodeProto, *, fences: bool) -> bool:
    if node.op_type == "Max":
        return fences and len(node.input) == 1
    return node.op_type in _ACTIVATIONS or node.op_type == "QuantizeLinear"


def _axis(node: onnx.NodeProto) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 1)


def _fits(values: npt.NDArray[Any], integers: npt.NDArray[Any], node: onnx.NodeProto) -> bool:
    """Whether scales or zero points are numbers, and one, or one for each channel."""
    if values.dtype.kind not in "iuf":
        return False
    axis = _axis(node)
    return values.size == 1 or (
        -integers.ndim <= axis < integers.ndim and values.shape == (integers.shape[axis],)
    )


def _along(values: npt.NDArray[Any], integers: npt.NDArray[Any], node: onnx.NodeProto) -> npt.NDArray[Any]:
    """One number, or one for each channel, so that it multiplies the integers of a DequantizeLinear."""
    if values.size == 1:
        return values.astype(np.float32).reshape(())
    axis = _axis(node) % integers.ndim
    return values.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
