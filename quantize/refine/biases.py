"""Pass: biases that make every operator's mean output that of fp32, operator after operator.

Rounding weights and saturating activations shift what an operator makes; the shift of channel c is `d_c =
median over images of (mean over positions of fp32 - mean over positions of int8)`, before the activation, and
`b_c += d_c` undoes it (bias correction after Nagel et al. 2019, arXiv 1906.04721, section 4.2, with measured
inputs). Each operator is corrected before the next one is measured, on what the corrected ones make.

The median and not the mean: a minority of images with massive activations would drag a mean along and shrink
the scores of all others (KL 0.128 against 0.0135 on MobileNetV2; DESIGN, "The refinement recipe").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from quantize.graph import GraphIndex, tensors_read
from quantize.qdq import write_qdq
from quantize.refine.network import Draft, Network
from quantize.refine.observe import Observations
from quantize.refine.walk import Walk
from quantize.target import WEIGHTED_OPERATORS
from quantize.weights import Parameters, round_bias

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Corrected:
    """A draft with corrected biases.

    Attributes:
        draft: the draft.
        scores: what it makes of the images, [images, classes]; None where the walk that corrected it had
            other biases than the deployment, or not all of them are numbers.
    """

    draft: Draft
    scores: Floats | None


def refine_biases(
    network: Network,
    draft: Draft,
    observations: Observations,
    images: Sequence[Floats],
    *,
    threads: int,
) -> Corrected:
    """Corrects the biases of all convolutions and Gemms but those that make the scores.

    Args:
        network: the fp32 network.
        draft: with integers for its weights.
        observations: of fp32, on the same images in the same order.
        images: one array for each image, as the model takes them.
        threads: images under way at once; the result does not depend on it.
    """
    names = corrected_operators(network, draft)
    parameters = {name: _with_bias(draft.parameters[name]) for name in names}
    draft = draft.but(parameters={**draft.parameters, **parameters})
    # Where the deployment wants a float bias, it is that of the same integers.
    target = dataclasses.replace(network.target, integer_bias=True)
    model = write_qdq(network.model, network.inventory, draft.plan(), target)
    index = GraphIndex(model.graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    walk = Walk(model, images, threads=threads, config_entries=network.session_entries)
    for name in names:
        operator, _ = network.weighted[name]
        wanted = observations.means[name]
        factors = draft.factors.get(operator.output)
        wanted = wanted if factors is None else wanted * factors
        shift = np.median(wanted.astype(np.float64) - walk.means_before(name), axis=0)
        parameters[name] = _shifted(parameters[name], shift)
        bias = index.producer[nodes[name].input[2]].input[0]
        constants[bias].CopyFrom(numpy_helper.from_array(_bias(parameters[name]), bias))
    made = draft.but(parameters={**draft.parameters, **parameters})
    scores = walk.scores() if network.target.integer_bias else None
    return Corrected(made, scores if scores is not None and np.all(scores < np.inf) else None)


def corrected_operators(network: Network, draft: Draft) -> list[str]:
    """The operators with a bias to correct, in graph order.

    A MatMul has none. What makes the scores is left alone: a constant added to them for all images alike
    would favour classes.
    """
    followed: set[str] = set()
    for node in reversed(network.model.graph.node):
        if node.op_type in WEIGHTED_OPERATORS:
            followed.update(node.input[:1])
        if any(name in followed for name in node.output):
            followed.update(tensors_read(node))
    return [
        name
        for name, (operator, geometry) in network.weighted.items()
        if name in draft.parameters and geometry.op_type != "MatMul" and operator.raw_output in followed
    ]


def _with_bias(parameters: Parameters) -> Parameters:
    if parameters.bias is not None:
        return parameters
    shape = parameters.weights.shape
    channels = shape[parameters.axis] if parameters.axis is not None else shape[0]
    return dataclasses.replace(parameters, bias=np.zeros(channels, dtype=np.int32))


def _shifted(parameters: Parameters, shift: npt.NDArray[np.float64]) -> Parameters:
    scale = parameters.bias_scale.astype(np.float64)
    bias = round_bias(_bias(parameters) * scale + shift, parameters.bias_scale)
    return dataclasses.replace(parameters, bias=bias)


def _bias(parameters: Parameters) -> npt.NDArray[Any]:
    if parameters.bias is None:
        raise AssertionError("every corrected operator was given a bias")
    return parameters.bias
