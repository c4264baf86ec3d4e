"""Pass: channels that share a scale moved over each other, exactly and at no cost.

A tensor with one scale for all channels wastes steps where its channels lie apart: between one around -4 and
one around 5, most of the range is empty for either. Where the tensor is made by a convolution without an
activation, or by adding such tensors, channel c can be moved by `-s_c` in the bias of what makes it, and back
in the bias of what reads it: a convolution with weights W that reads `x - s` adds `W · s`. The network
computes the same. Padding would put zeros where `-s` should be, so that only convolutions without padding may
read such a tensor. An addition moves by the sum of what its operands move by, so that a residual stream is
moved as a whole, by the moves of its convolutions that bring all of its tensors closest to their middles.

Moving activations between layers is known from the absorption of high biases (Nagel et al. 2019, arXiv
1906.04721, section 4.1.2), which passes what lies beyond the knee of a Relu on, approximately, and from
Outlier Suppression+ (Wei et al. 2023, arXiv 2304.09145, section 4.1), which moves LayerNorm's output by its
channels' midpoints. Here the tensors are linear, so that it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from quantize.graph import GraphIndex
from quantize.operators import Operator
from quantize.refine.network import Network
from quantize.scales import ActivationScale, steady

Floats = npt.NDArray[np.float32]

# A stream is left alone unless its ranges become narrower by this much, in the geometric mean.
_LEAST_GAIN = 0.01

# What is added to it must fit float32 too.
_LARGEST_BIAS = float(np.finfo(np.float32).max) / 2


@dataclass(frozen=True)
class Stream:
    """Tensors that additions tie together.

    Attributes:
        makers: convolution -> the tensor that it makes.
        parts: tensor -> how often each maker's result is added into it, in the order of `makers`; in graph
            order.
        readers: convolution -> the tensor that it reads.
    """

    makers: Mapping[str, str]
    parts: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, str]


def find_streams(network: Network) -> list[Stream]:
    """The tensors that can be moved, in graph order.

    All of a stream can, or none: what one reader does not allow would have to be undone by an addition, which
    has no weights.
    """
    linear = _linear_operators(network)
    found = []
    for tensors in _tied(linear):
        readers = _readers(network, tensors)
        makers = {linear[t].name: t for t in tensors if linear[t].op_type == "Conv"}
        if readers is not None and _alike(network, makers):
            found.append(Stream(makers, _parts(tensors, linear, list(makers.values())), readers))
    return found


def _linear_operators(network: Network) -> dict[str, Operator]:
    """Tensor -> what makes it: a convolution without an activation, or an addition of such tensors."""
    found: dict[str, Operator] = {}
    for operator in network.inventory.quantizable:  # in graph order
        if operator.activation is not None or operator.float_output:
            continue
        convolves = operator.op_type == "Conv" and operator.name in network.weighted
        adds = operator.op_type == "Add" and len(operator.inputs) == 2
        if convolves or (adds and all(tensor in found for tensor in operator.inputs)):
            found[operator.output] = operator
    return found


def _tied(linear: Mapping[str, Operator]) -> list[list[str]]:
    """Tensors by stream, each in graph order."""
    stream_of: dict[str, list[str]] = {}
    for tensor, operator in linear.items():
        streams = [] if operator.op_type == "Conv" else [stream_of[operand] for operand in operator.inputs]
        joined = list(dict.fromkeys([member for stream in streams for member in stream] + [tensor]))
        stream_of.update(dict.fromkeys(joined, joined))
    order = {tensor: place for place, tensor in enumerate(linear)}
    distinct = {id(stream): sorted(stream, key=order.__getitem__) for stream in stream_of.values()}
    return sorted(distinct.values(), key=lambda stream: order[stream[0]])


def _readers(network: Network, tensors: Sequence[str]) -> dict[str, str] | None:
    """Convolution -> tensor of the stream that it reads; None where something else reads one, or anybody."""
    index, stream, found = network.index, frozenset(tensors), {}
    if stream & (index.outputs | index.read_inside):
        return None
    for tensor in tensors:
        for node in index.readers(tensor):
            if node.op_type == "Add" and node.output[0] in stream:
                continue
            if node.op_type != "Conv" or node.name not in network.weighted:
                return None
            if network.weighted[node.name][1].pads != (0, 0, 0, 0) or list(node.input).index(tensor):
                return None
            found[node.name] = tensor
    return found


def _alike(network: Network, makers: Iterable[str]) -> bool:
    """Whether all make the same channels on the same axis, so that no addition broadcasts one to many."""
    shapes = [network.weighted[name][1].weight_shape for name in makers]
    return len({(shape[0], len(shape)) for shape in shapes}) == 1


def _parts(
    tensors: Sequence[str], linear: Mapping[str, Operator], makers: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    made = {tensor: np.array([int(tensor == maker) for maker in makers]) for tensor in makers}
    for tensor in tensors:
        if tensor not in made:
            first, second = linear[tensor].inputs
            made[tensor] = made[first] + made[second]
    return {tensor: tuple(map(int, made[tensor])) for tensor in tensors}


def moves_of(
    stream: Stream, lows: Mapping[str, Floats], highs: Mapping[str, Floats]
) -> dict[str, npt.NDArray[np.float64]]:
    """How far each tensor of a stream moves, float64 [channels]; nothing where it would not pay.

    The middle of a channel is that of the medians of its extremes over the images: absolute extremes belong
    to the few images of massive activations, which then decide for all others (KL of MobileNetV2 with the
    middles of the 90 % quantiles 0.0079 instead of 0.0064, mean of two splits). The moves of the convolutions
    minimize, channel by channel, the squared distances of the tensors from their middles, each in units of
    its tensor's range.

    Args:
        stream: of tensors.
        lows: tensor -> the least value of each channel, float32 [images, channels].
        highs: the same of the largest.
    """
    tensors = list(stream.parts)
    low = np.array([np.median(lows[tensor].astype(np.float64), axis=0) for tensor in tensors])
    high = np.array([np.median(highs[tensor].astype(np.float64), axis=0) for tensor in tensors])
    parts = np.array([stream.parts[tensor] for tensor in tensors], np.float64)
    widths = _widths(low, high)
    if not widths.all():
        return {}
    weighted = parts / widths[:, None]
    made, *_ = np.linalg.lstsq(weighted, (low + high) / 2 / widths[:, None], rcond=None)
    # Steady, because what was measured, and the solution, are not the same to the last bit on every CPU.
    moves = parts @ np.vectorize(steady, otypes=[np.float64])(made)
    after = _widths(low - moves, high - moves)
    if not after.all() or np.prod(after / widths) > (1.0 - _LEAST_GAIN) ** len(tensors):
        return {}
    return dict(zip(tensors, moves, strict=True))


def _widths(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranges of tensors, from the extremes of their channels [tensors, channels]; zero is in every range."""
    widths: npt.NDArray[np.float64] = np.maximum(high.max(axis=1), 0.0) - np.minimum(low.min(axis=1), 0.0)
    return widths


def moved(
    network: Network, streams: Sequence[Stream], moves: Mapping[str, npt.NDArray[np.float64]]
) -> onnx.ModelProto | None:
    """The fp32 model with tensors moved, by changes of biases alone; None if float32 does not hold them.

    Args:
        network: the fp32 network; it stays as it is.
        streams: those that are moved.
        moves: each of their tensors -> how far down, [channels].
    """
    changes: dict[str, npt.NDArray[np.float64]] = {}
    for stream in streams:
        for name, tensor in stream.makers.items():
            changes[name] = changes.get(name, 0.0) - moves[tensor]
        for name, tensor in stream.readers.items():
            changes[name] = changes.get(name, 0.0) + _passed_on(network, name, moves[tensor])
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    nodes = {node.name: node for node in model.graph.node}
    for name, change in changes.items():
        _, bias = network.float_parameters(name, {})
        new = change if bias is None else bias.astype(np.float64) + change
        if np.abs(new).max() > _LARGEST_BIAS:
            return None
        _give_bias(model.graph, nodes[name], new.astype(np.float32))
    _drop_unread(model.graph)
    return model


def rounded(model: onnx.ModelProto, scales: Mapping[str, ActivationScale]) -> onnx.ModelProto:
    """The fp32 model with some of its tensors rounded, and all else as it is."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for tensor, scale in scales.items():
        parameters = [f"{tensor}.rounded_{part}" for part in ("scale", "zero_point")]
        values = (np.float32(scale.scale), scale.dtype(scale.zero_point))
        graph.initializer.extend(map(numpy_helper.from_array, map(np.array, values), parameters))
    names = {tensor: f"{tensor}.rounded" for tensor in scales}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        graph.node.append(node)
        for tensor in node.output:
            if tensor in scales:
                graph.node.extend(_rounding(tensor, names[tensor]))
    return result


def _rounding(tensor: str, result: str) -> list[onnx.NodeProto]:
    parameters = [f"{tensor}.rounded_scale", f"{tensor}.rounded_zero_point"]
    integers = f"{tensor}.rounded_integers"
    return [
        onnx.helper.make_node("QuantizeLinear", [tensor, *parameters], [integers]),
        onnx.helper.make_node("DequantizeLinear", [integers, *parameters], [result]),
    ]


def _passed_on(network: Network, name: str, move: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`W · s`: what a convolution without padding makes of a constant input, [output channels]."""
    weights, _ = network.float_parameters(name, {})
    spread = network.weighted[name][1].spread_inputs(move)
    # numpy's own sums, whose order is fixed; a BLAS product's depends on the CPU.
    sums: npt.NDArray[np.float64] = (weights.astype(np.float64) * spread).sum(axis=2).reshape(-1)
    return sums


def _give_bias(graph: onnx.GraphProto, node: onnx.NodeProto, bias: Floats) -> None:
    """A bias of its own: the one that it has may be another node's too."""
    taken = {tensor.name for tensor in graph.initializer} | {
        name for one in graph.node for name in one.output
    }
    name = f"{node.name}.centred_bias"
    while name in taken:
        name += "_"
    graph.initializer.append(numpy_helper.from_array(bias, name))
    del node.input[2:]
    node.input.append(name)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Biases that nobody reads any more."""
    index = GraphIndex(graph)
    kept = [t for t in graph.initializer if index.readers(t.name) or t.name in index.outputs]
    del graph.initializer[:]
    graph.initializer.extend(kept)
