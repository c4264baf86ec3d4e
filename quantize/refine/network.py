"""What refinement works on: a draft of an integer model, and the fp32 network that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantize.graph import GraphIndex
from quantize.operators import Inventory, Operator
from quantize.qdq import Plan
from quantize.refine.geometry import Geometry, geometry_of
from quantize.refine.rounding import EIGHT_BITS, SEVEN_BITS, Grid
from quantize.scales import ActivationScale
from quantize.target import Target
from quantize.weights import Parameters, float_parameters

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Draft:
    """An integer model in the making; passes turn one into the next.

    The quantized tensor t holds `factors[t] · t`, channel by channel, where there are factors: equalization
    multiplies them into the weights that make t and divides them out of the weights that read it.

    Attributes:
        operators: integer operators -> whether their weights have one scale per output channel.
        scales: quantized tensor -> scale and zero point.
        factors: tensor -> [channels] factors, positive.
        parameters: weighted operator -> its integers; those without are rounded to the nearest.
        padding: convolution -> input channels of zeros added to it.
    """

    operators: Mapping[str, bool]
    scales: Mapping[str, ActivationScale]
    factors: Mapping[str, Floats] = field(default_factory=dict)
    parameters: Mapping[str, Parameters] = field(default_factory=dict)
    padding: Mapping[str, int] = field(default_factory=dict)

    def plan(self) -> Plan:
        """What the QDQ writer takes."""
        return Plan(self.operators, self.scales, self.parameters, self.padding)

    def but(self, **changes: Any) -> Draft:
        """This draft with some attributes replaced."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Network:
    """The fp32 network.

    Attributes:
        model: prepared fp32 model.
        inventory: its operators.
        target: the deployment's kernels.
        probabilities: whether it ends in softmax.
    """

    model: onnx.ModelProto
    inventory: Inventory
    target: Target
    probabilities: bool = False

    @cached_property
    def index(self) -> GraphIndex:
        """Look-ups in the graph."""
        return GraphIndex(self.model.graph)

    @cached_property
    def nodes(self) -> Mapping[str, onnx.NodeProto]:
        """Node name -> node."""
        return {node.name: node for node in self.model.graph.node}

    @cached_property
    def weighted(self) -> Mapping[str, tuple[Operator, Geometry]]:
        """The weighted operators whose arithmetic is known, in graph order."""
        found = {}
        for operator in self.inventory.quantizable:
            geometry = geometry_of(self.nodes[operator.name], self.index) if operator.weighted else None
            if geometry is not None:
                found[operator.name] = (operator, geometry)
        return found

    @property
    def session_entries(self) -> Mapping[str, str]:
        """Settings of sessions that run drafts, so that they compute the same on every machine.

        Weights that only kernels without saturation take are tried out on such kernels.
        """
        return {} if self.target.pair_saturation else {"session.x64quantprecision": "1"}

    def grid(self, geometry: Geometry) -> Grid:
        """The integers that an operator's weights may be on the target."""
        if geometry.depthwise or not self.target.pair_saturation:
            return Grid(EIGHT_BITS)
        taps = geometry.kernel[0] * geometry.kernel[1]
        if taps > 1 and geometry.inputs // geometry.groups % 2:
            # Whether neighbours reach across a kernel position depends on how the kernel pads its channels;
            # 7 bits suit both.
            return Grid(SEVEN_BITS)
        return Grid(EIGHT_BITS, paired=True)

    def float_parameters(self, name: str, factors: Mapping[str, Floats]) -> tuple[Floats, Floats | None]:
        """Weights [groups, M, K] and bias [channels] of an operator between equalized tensors."""
        operator, geometry = self.weighted[name]
        weights, bias = float_parameters(self.nodes[name], self.index)
        packed = geometry.pack(weights)
        read, made = factors.get(operator.inputs[0]), factors.get(operator.output)
        if read is not None:
            packed = packed / geometry.spread_inputs(read)
        if made is not None:
            packed = packed * made.reshape(geometry.groups, -1, 1)
            bias = None if bias is None else bias * made
        return packed.astype(np.float32), None if bias is None else bias.astype(np.float32)
