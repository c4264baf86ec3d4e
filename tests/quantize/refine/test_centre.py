"""Channels over each other: the same function, narrower ranges, and nothing moved that must not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from quantize.graph import GraphIndex
from quantize.ranges import collect_extremes
from quantize.refine.centre import Stream, find_streams, moved, moves_of, rounded
from quantize.scales import activation_scale
from quantize.session import make_session, outputs
from tests.quantize.models import ZOO, Case, make_case, random_network, zoo_case
from tests.quantize.net import Net
from tests.quantize.refine.conftest import network_of

CHANNELS = 6


def residual(**oddity: Any) -> Case:
    """Two inverted bottlenecks whose outputs are added twice; the channels lie up to 8 apart.

    Args:
        oddity: `reader`: what else reads the stream; `activation`: what the last addition ends in; `shared`:
            whether two convolutions have one bias; `bias`: whether they have any.
    """
    net = Net(13, seed=3)
    apart = np.linspace(-4, 4, CHANNELS)
    shared = net.constant(apart)

    def bottleneck(x: str, into: int) -> str:
        wide = net.relu(net.conv(x, into, 12, 1))
        bias = [shared if oddity.get("shared") else net.constant(apart * net.random.uniform(0.5, 1))]
        weights = net.weight(CHANNELS, 12, 1, 1)
        return net.node("Conv", wide, weights, *(bias if oddity.get("bias", True) else []))

    first = bottleneck("image", 3)
    added = net.node("Add", bottleneck(first, CHANNELS), first)
    last = net.node("Add", added, bottleneck(added, CHANNELS))
    if oddity.get("activation"):
        last = net.relu(last)
    reader = oddity.get("reader", "conv")
    if reader == "padded":
        last = net.conv(last, CHANNELS, CHANNELS, 3)
    elif reader == "pool":
        last = net.node("MaxPool", last, kernel_shape=[2, 2])
    elif reader == "scaled":
        net.node("Mul", first, net.constant(2.0))
        last = net.node("Add", last, net.nodes[-1].output[0])
    net.head(net.relu(net.conv(last, CHANNELS, 8, 1)), 8)
    return make_case(net.model())


def measured(case: Case, streams: list[Stream], model: onnx.ModelProto | None = None) -> Any:
    tensors = [tensor for stream in streams for tensor in stream.parts]
    given = case.prepared if model is None else model
    return collect_extremes(given, tensors, [(case.images, None)], threads=1, by_channel=tensors)


def centred(case: Case) -> tuple[onnx.ModelProto, dict[str, Any]]:
    streams = find_streams(network_of(case))
    seen = measured(case, streams)
    found = [(stream, moves_of(stream, seen.channel_lows, seen.channel_highs)) for stream in streams]
    moves = {tensor: move for _, one in found for tensor, move in one.items()}
    model = moved(network_of(case), [stream for stream, one in found if one], moves)
    assert model is not None
    return model, moves


def scores(model: onnx.ModelProto, images: Any) -> Any:
    return outputs(make_session(model, threads=1), images)


def test_a_residual_stream_is_found_as_a_whole() -> None:
    (stream,) = find_streams(network_of(residual()))
    assert list(stream.parts.values()) == [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 1, 1)]
    assert len(stream.makers) == 3
    assert len(stream.readers) == 3
    assert list(stream.readers.values())[-1] == list(stream.parts)[-1]


@pytest.mark.parametrize("reader", ["padded", "pool", "scaled"])
def test_nothing_is_moved_that_others_read(reader: str) -> None:
    additions = [
        node.output[0] for node in residual(reader=reader).prepared.graph.node if node.op_type == "Add"
    ]
    streams = find_streams(network_of(residual(reader=reader)))
    assert additions
    assert not set(additions) & {tensor for stream in streams for tensor in stream.parts}


def test_nothing_is_moved_that_an_activation_ends() -> None:
    case = residual(activation=True)
    streams = find_streams(network_of(case))
    activations = {o.output for o in case.inventory.quantizable if o.activation is not None}
    assert not activations & {tensor for stream in streams for tensor in stream.parts}


def test_nothing_is_moved_that_the_graph_puts_out() -> None:
    model = residual().model
    (stream,) = find_streams(network_of(residual()))
    model.graph.output.append(onnx.helper.make_tensor_value_info(next(iter(stream.makers.values())), 1, None))
    case = residual()
    index = GraphIndex(model.graph)
    network = type(network_of(case))(model, case.inventory, case.target)
    assert index.outputs & set(stream.parts)
    assert find_streams(network) == []


def test_an_addition_that_broadcasts_moves_nothing() -> None:
    net = Net(13, seed=1)
    one = net.conv("image", 3, 1, 1)
    many = net.conv("image", 3, CHANNELS, 1)
    net.head(net.relu(net.conv(net.node("Add", one, many), CHANNELS, 8, 1)), 8)
    assert find_streams(network_of(make_case(net.model()))) == []


@pytest.mark.parametrize("oddity", [{}, {"shared": True}, {"bias": False}])
def test_the_function_stays_the_same(oddity: dict[str, Any]) -> None:
    case = residual(**oddity)
    before = case.prepared.SerializeToString(deterministic=True)
    model, moves = centred(case)
    assert moves
    assert case.prepared.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model)
    expected = scores(case.prepared, case.images)
    # The same sums of float32 with other constants: some rounding errors of numbers around 10.
    np.testing.assert_allclose(scores(model, case.images), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(ZOO))
def test_the_function_stays_the_same_on_every_kind_of_network(name: str) -> None:
    case = zoo_case(name)
    model, _ = centred(case)
    expected = scores(case.prepared, case.images)
    np.testing.assert_allclose(scores(model, case.images), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(12))
def test_the_function_stays_the_same_on_random_graphs(seed: int) -> None:
    case = make_case(random_network(seed))
    model, _ = centred(case)
    expected = scores(case.prepared, case.images)
    np.testing.assert_allclose(scores(model, case.images), expected, atol=1e-4 * np.abs(expected).max())


def test_tensors_move_by_what_is_said_and_become_narrower() -> None:
    case = residual()
    streams = find_streams(network_of(case))
    model, moves = centred(case)
    before, after = measured(case, streams), measured(case, streams, model)
    for tensor, move in moves.items():
        expected = before.channel_lows[tensor] - move
        np.testing.assert_allclose(after.channel_lows[tensor], expected, atol=1e-4)
        width = before.highs[tensor].max() - before.lows[tensor].min()
        assert after.highs[tensor].max() - after.lows[tensor].min() < 0.8 * width


def test_tensors_made_by_one_convolution_are_centred() -> None:
    """Without an addition nothing stands in the way: the middle of every channel's median range is zero."""
    stream = Stream({"conv": "t"}, {"t": (1,)}, {"reader": "t"})
    random = np.random.default_rng(0)
    middle = random.normal(0, 5, CHANNELS)
    lows = {"t": (middle - random.uniform(0.5, 1, (9, CHANNELS))).astype(np.float32)}
    highs = {"t": (middle + random.uniform(0.5, 1, (9, CHANNELS))).astype(np.float32)}
    moves = moves_of(stream, lows, highs)["t"]
    expected = (np.median(lows["t"], axis=0) + np.median(highs["t"], axis=0)) / 2
    np.testing.assert_allclose(moves, expected, rtol=2**-9)
    # One image of massive activations decides nothing.
    lows["t"][0] -= 100
    np.testing.assert_allclose(moves_of(stream, lows, highs)["t"], moves, atol=0.3)


def test_channels_that_lie_over_each_other_stay() -> None:
    stream = Stream({"conv": "t"}, {"t": (1,)}, {"reader": "t"})
    ends = np.tile(np.float32([1, 2, 3, 4]), (5, 1))
    assert moves_of(stream, {"t": -ends}, {"t": ends}) == {}
    assert moves_of(stream, {"t": 0 * ends}, {"t": 0 * ends}) == {}


def test_biases_that_float32_does_not_hold_are_not_made() -> None:
    case = residual()
    (stream,) = find_streams(network_of(case))
    huge = {tensor: np.full(CHANNELS, 3e38) for tensor in stream.parts}
    assert moved(network_of(case), [stream], huge) is None


def test_only_the_given_tensors_are_rounded() -> None:
    case = residual()
    (stream,) = find_streams(network_of(case))
    tensor = list(stream.parts)[-1]
    scale = activation_scale(-3.0, 5.0)
    model = rounded(case.prepared, {tensor: scale})
    model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, 1, None))
    model.graph.output.append(onnx.helper.make_tensor_value_info(f"{tensor}.rounded", 1, None))
    _, exact, found = make_session(model, threads=1).run(None, {"image": case.images[:2]})
    # ONNX Runtime divides in float32, where a value halfway between two steps may fall on either side.
    np.testing.assert_allclose(found, scale.rounded(exact.astype(np.float64)), atol=scale.scale * 1.001)
    assert np.mean(np.abs(found - scale.rounded(exact.astype(np.float64))) > 1e-5) < 0.01
    assert not np.array_equal(scores(model, case.images), scores(case.prepared, case.images))
    nothing = rounded(case.prepared, {})
    np.testing.assert_array_equal(scores(nothing, case.images), scores(case.prepared, case.images))
