"""Pass: the size of the scores, which saturation shrinks.

With the scores of fp32 `f` and of int8 `q` on calibration images, each centred per image, `g = <q, f> / <f,
f>` is how much of their size is left (least squares); dividing the scales of the last weighted operator by g
gives it back, without changing an integer. Centred, because adding one number to all scores of an image
changes no probability.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.metrics import log_probabilities
from quantize.refine.network import Draft, Network
from quantize.scales import ActivationScale, steady

Floats = npt.NDArray[np.float32]

# Beyond it something else is wrong, and a factor does not mend it.
_PLAUSIBLE = (0.5, 2.0)

# What keeps scores proportional to what goes in.
_HOMOGENEOUS = frozenset(
    {
        "GlobalAveragePool",
        "AveragePool",
        "Flatten",
        "Reshape",
        "Squeeze",
        "Relu",
        "ReduceMean",
        "Dropout",
        "Identity",
    }
)
# It turns scores into probabilities; logarithms of them are scores again.
_SOFTMAX = frozenset({"Softmax", "LogSoftmax"})


def gain_of(integer: npt.NDArray[Any], reference: npt.NDArray[Any], *, probabilities: bool = False) -> float:
    """`<q, f> / <f, f>` of scores, centred per image; 1 where the reference says nothing.

    To ten significant bits (`steady`), because the scores of fp32 are not the same to the last on every CPU.

    Args:
        integer: of the integer model, [N, classes] float.
        reference: of fp32, the same shape.
        probabilities: they went through softmax; their logarithms are scores again.
    """
    q, f = (
        log_probabilities(x, probabilities=True) if probabilities else x.astype(np.float64)
        for x in (integer, reference)
    )
    q, f = q - q.mean(axis=1, keepdims=True), f - f.mean(axis=1, keepdims=True)
    # numpy's own sums, whose order is fixed; a BLAS product's depends on the CPU.
    power = float((f * f).sum())
    return steady(float((q * f).sum()) / power) if power > 0 else 1.0


def refine_gain(draft: Draft, name: str, output: str, gain: float) -> Draft:
    """Divides the last operator's result by `gain`, in its scales alone.

    Args:
        draft: with integers for the operator.
        name: of the operator.
        output: the quantized tensor that it makes; of no importance where it makes floats.
        gain: from `gain_of`.
    """
    old = draft.parameters[name]
    # The bias scale follows from the weight scale, as the integer kernels compute it: in float32.
    scale = (old.scale / np.float32(gain)).astype(np.float32)
    data_scale = old.bias_scale / old.scale
    changed = dataclasses.replace(old, scale=scale, bias_scale=(data_scale * scale).astype(np.float32))
    scales = dict(draft.scales)
    if output in scales:
        entry = scales[output]
        scales[output] = ActivationScale(float(np.float32(entry.scale / gain)), entry.zero_point)
    return draft.but(parameters={**draft.parameters, name: changed}, scales=scales)


def scoring_operator(network: Network, draft: Draft) -> str | None:
    """The one operator that the scores are proportional to, if there is one with integers of its own."""
    tensor = network.model.graph.output[0].name
    while True:
        node = network.index.producer.get(tensor)
        if node is None:
            return None
        if node.name in draft.parameters:
            return node.name
        if node.op_type not in _HOMOGENEOUS | _SOFTMAX or len(network.index.readers(node.input[0])) != 1:
            return None
        tensor = node.input[0]


def is_plausible(gain: float) -> bool:
    """Whether a gain may be applied."""
    return bool(np.isfinite(gain)) and _PLAUSIBLE[0] <= gain <= _PLAUSIBLE[1]
