"""Drafts of some of the operators of a refined draft, for measuring what each of them costs.

An equalized tensor t holds `k_c · t_c`, because what makes it multiplies by k_c and what reads it divides.
With one of them back in fp32, which knows of no factors, the other has to do without them too: its weights
are rounded anew, as the pass that made them would have, and everything else stays as it was refined.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.qdq import settled_scales
from quantize.refine.equalize import find_channels
from quantize.refine.network import Draft, Network
from quantize.refine.weights import rounded_weights
from quantize.weights import Parameters, round_bias

# Rounds the weights of all operators of a draft.
Rounding = Callable[[Draft], Draft]


@dataclass(frozen=True)
class Parts:
    """Takes a refined draft apart.

    Attributes:
        network: the fp32 network.
        whole: the refined draft.
        rounding: made its weights, unless that was taken back; should remember what it has rounded before.
    """

    network: Network
    whole: Draft
    rounding: Rounding

    def of(self, operators: Mapping[str, bool]) -> Draft:
        """The draft with only these operators as integers.

        Args:
            operators: -> whether their weights have one scale per output channel.
        """
        whole = self.whole
        chosen = {name: whole.operators.get(name, granular) for name, granular in operators.items()}
        scalable = {channels.tensor for channels in find_channels(self.network, chosen)}
        draft = whole.but(
            operators=chosen,
            factors={tensor: factors for tensor, factors in whole.factors.items() if tensor in scalable},
            parameters={name: whole.parameters[name] for name in chosen if name in whole.parameters},
            padding={name: count for name, count in whole.padding.items() if name in chosen},
        )
        lost = whole.factors.keys() - draft.factors.keys()
        changed = {}
        for name in draft.parameters:
            operator, _ = self.network.weighted[name]
            if {operator.inputs[0], operator.output} & lost:
                changed[name] = self._rounded_anew(draft, name)
        return draft.but(parameters={**draft.parameters, **changed})

    def alone(self, name: str) -> Draft:
        """The draft in which one operator is an integer, with its refined ranges and weights.

        Its bias is that of fp32: what is corrected in biases, and in the size of the scores, is what the
        integers before it do to what it reads, and here there are none.
        """
        network, whole = self.network, self.whole
        chosen = {name: whole.operators[name]}
        scales = {t: whole.scales[t] for t in network.inventory.by_name()[name].tensors if t in whole.scales}
        draft = Draft(chosen, settled_scales(network.model, network.inventory, chosen, scales))
        if name in network.weighted:
            draft = self._rounding_of(name)(draft)
        return draft.but(padding={name: whole.padding[name]} if name in whole.padding else {})

    def _rounding_of(self, name: str) -> Rounding:
        """What rounded the weights of an operator of the whole."""
        refined = self.rounding(_only(self.whole, name)).parameters[name]
        if np.array_equal(refined.weights, self.whole.parameters[name].weights):
            return self.rounding
        return lambda draft: rounded_weights(self.network, draft)

    def _rounded_anew(self, draft: Draft, name: str) -> Parameters:
        """An operator's integers for the factors that are left; corrections stay."""
        rounding = self._rounding_of(name)
        old, before = self.whole.parameters[name], rounding(_only(self.whole, name)).parameters[name]
        new = rounding(_only(draft, name)).parameters[name]
        # The size of the scores is corrected in scales alone, by one number for all channels.
        gain = np.float32(np.ravel(old.scale / before.scale)[0])
        scale, bias_scale = ((one * gain).astype(np.float32) for one in (new.scale, new.bias_scale))
        bias = self._bias(draft, name)
        return dataclasses.replace(
            new,
            scale=scale,
            bias_scale=bias_scale,
            bias=None if bias is None else round_bias(bias, bias_scale),
        )

    def _bias(self, draft: Draft, name: str) -> npt.NDArray[Any] | None:
        """The corrected bias, float64 [channels], without the factors that are gone."""
        parameters, output = self.whole.parameters[name], self.network.weighted[name][0].output
        if parameters.bias is None:
            return None
        bias = parameters.bias * parameters.bias_scale.astype(np.float64)
        gone = output in self.whole.factors and output not in draft.factors
        return bias / self.whole.factors[output] if gone else bias


def _only(draft: Draft, name: str) -> Draft:
    return draft.but(operators={name: draft.operators[name]}, parameters={})
