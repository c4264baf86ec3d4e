"""Moving channels, whatever they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quantize.ranges.collect import _channel_extremes
from quantize.refine.centre import Stream, _passed_on, _widths, find_streams, moved, moves_of, rounded
from quantize.scales import activation_scale
from quantize.session import make_session, outputs
from tests.quantize.models import Case, make_case
from tests.quantize.net import Net
from tests.quantize.refine.conftest import network_of
from tests.robustness.covering import arrays, covers, within

# Two convolutions and their sum.
STREAM = Stream({"a": "x", "b": "y"}, {"x": (1, 0), "y": (0, 1), "z": (1, 1)}, {"reader": "z"})
SOME = st.one_of(
    arrays(6, 3, 4), arrays(6, 3, 4, elements=within(10.0)), st.just(np.zeros((6, 3, 4), np.float32))
)


@covers(
    "quantize.refine.centre.moves_of",
    "quantize.refine.centre._widths",
    does="moves are finite, a sum moves by the sum of its parts, and ranges become narrower or nothing moves",
)
@given(ends=SOME)
def test_moves_make_ranges_narrower(ends: Any) -> None:
    lows = {tensor: np.minimum(ends[i], ends[i + 3]) for i, tensor in enumerate("xyz")}
    highs = {tensor: np.maximum(ends[i], ends[i + 3]) for i, tensor in enumerate("xyz")}
    moves = moves_of(STREAM, lows, highs)
    if not moves:
        return
    assert all(np.isfinite(move).all() for move in moves.values())
    np.testing.assert_allclose(moves["z"], moves["x"] + moves["y"], rtol=1e-12)
    low, high = (np.array([np.median(one[t], axis=0) for t in "xyz"], np.float64) for one in (lows, highs))
    moved_by = np.array([moves[t] for t in "xyz"])
    before, after = _widths(low, high), _widths(low - moved_by, high - moved_by)
    assert np.all(before > 0) and np.all(after > 0)
    assert np.log(after / before).sum() < 0


@covers("quantize.ranges.collect._channel_extremes", does="they are the extremes of each channel")
@given(values=arrays(3, 2, 4))
def test_extremes_of_channels(values: Any) -> None:
    lows, highs = _channel_extremes(values)
    for channel in range(3):
        assert lows[channel] == min(values[channel].reshape(-1).tolist())
        assert highs[channel] == max(values[channel].reshape(-1).tolist())


def case_of(weights: Any, bias: Any) -> Case:
    """A convolution to four channels, and one that reads it, with these weights."""
    net = Net(13, seed=2)
    made = net.node("Conv", "image", net.weight(4, 3, 1, 1), net.constant(bias))
    read = net.node("Conv", made, net.constant(weights[:, :, None, None]), net.constant(np.zeros(5)))
    net.head(net.relu(read), 5)
    return make_case(net.model())


@covers(
    "quantize.refine.centre.moved",
    "quantize.refine.centre._passed_on",
    does="the scores stay the same, or a bias would leave float32 and nothing is moved",
)
@given(
    weights=arrays(5, 4, elements=within(3.0)),
    bias=arrays(4, elements=within(100.0)),
    move=st.one_of(arrays(4), arrays(4, elements=within(100.0))),
)
def test_moved_networks_compute_the_same(weights: Any, bias: Any, move: Any) -> None:
    case = case_of(weights, bias)
    network = network_of(case)
    (stream,) = find_streams(network)
    ((reader, tensor),) = stream.readers.items()
    passed = _passed_on(network, reader, move.astype(np.float64))
    np.testing.assert_allclose(
        passed, weights.astype(np.float64) @ move, rtol=1e-9, atol=1e-9 * np.abs(move).max()
    )
    model = moved(network, [stream], {tensor: move.astype(np.float64)})
    largest = max(np.abs(move).max(), np.abs(passed).max(), 100.0)
    if model is None:
        assert largest > 1e38
        return
    before, after = (outputs(make_session(one, threads=1), case.images) for one in (case.prepared, model))
    # What is taken off and added again is rounded in float32, some sums deep.
    np.testing.assert_allclose(
        after, before, atol=float(min(1e-5 * largest * np.abs(weights).max(initial=1), 1e38))
    )


@covers(
    "quantize.refine.centre.rounded",
    does="one tensor holds multiples of its scale within its range, half a step from the exact ones",
)
@given(low=within(100.0), high=within(100.0))
def test_rounded_tensors(low: float, high: float) -> None:
    case = case_of(np.ones((5, 4), np.float32), np.float32([-60, -1, 0, 70]))
    (stream,) = find_streams(network_of(case))
    tensor = next(iter(stream.parts))
    entry = activation_scale(min(low, high), max(low, high))
    model = rounded(case.prepared, {tensor: entry})
    for name in (tensor, f"{tensor}.rounded"):
        model.graph.output.add(name=name)
    _, exact, found = make_session(model, threads=1).run(None, {"image": case.images})
    wanted = np.clip(exact.astype(np.float64), *entry.bounds)
    assert np.abs(found - wanted).max() <= entry.scale * 0.501 + 1e-5 * np.abs(wanted).max()
    steps = found.astype(np.float64) / entry.scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
