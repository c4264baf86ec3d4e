"""Statistics of activations and the rules that make ranges of them, for whatever a tensor may hold."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from quantize.ranges import RULES, Extremes, Histograms, RangeTable, collect_extremes, collect_histograms
from quantize.ranges.collect import BIN_COUNT, _count
from quantize.ranges.rules import (
    EXTREME_RULES,
    HISTOGRAM_RULES,
    _centres,
    _divergence,
    _kl,
    _mse,
    _percentile,
    _shrunk,
    _squared_error,
)
from quantize.scales import ActivationScale, activation_scale, steady
from tests.robustness.covering import FINITE, FLOAT32, arrays, covers, within

TINY = float(FLOAT32.tiny)


def table_of(values: Any) -> RangeTable:
    """Ranges of one tensor t, an image a row."""
    lows, highs = values.min(axis=1), values.max(axis=1)
    extremes = Extremes({"t": lows}, {"t": highs})
    low, high = extremes.bounds("t")
    return RangeTable(extremes, lambda: Histograms({"t": _count(values, low, high)}))


SOME = st.one_of(
    arrays(4, 9),
    arrays(4, 9, elements=within(10.0)),
    arrays(4, 9, elements=st.floats(0, 6, width=32)),
    st.builds(lambda value: np.full((4, 9), value, np.float32), FINITE),
)


@covers(
    "quantize.ranges.rules.RangeTable.scale",
    "quantize.ranges.rules.RangeTable._bounds",
    "quantize.ranges.collect.Extremes.bounds",
    does="every rule gives a finite scale with an exact zero, within the values that were seen",
)
@given(values=SOME, rule=st.sampled_from(RULES))
def test_every_rule_gives_a_scale(values: Any, rule: str) -> None:
    table = table_of(values)
    entry = table.scale("t", rule)
    assert np.isfinite(entry.scale) and entry.scale >= TINY and 0 <= entry.zero_point <= 255
    assert table.extremes.bounds("t") == (min(values.min(), 0.0), max(values.max(), 0.0))
    if entry == ActivationScale(1.0, 0):
        return
    least, most = entry.bounds
    low, high = table.extremes.bounds("t")
    # Half a step for the zero point, a thousandth for the ten significant bits.
    slack = entry.scale * 0.5001 + 0.001 * max(high, -low)
    assert least >= low - slack and most <= high + slack
    if rule == "minmax":
        assert least <= low + slack and most >= high - slack


@covers(
    "quantize.scales.steady",
    does="ten significant bits are kept, rounded half to even, once and for all",
)
@given(end=FINITE)
def test_ten_significant_bits(end: float) -> None:
    found = steady(end)
    assert steady(found) == found
    assert abs(Fraction(found) - Fraction(end)) <= abs(Fraction(end)) / (1 << 10)
    fraction, _ = np.frexp(found)
    assert float(fraction) * 1024 == int(float(fraction) * 1024)


@covers(
    "quantize.ranges.collect._count",
    does="every value is counted once, in the bin that exact arithmetic gives or its neighbour",
)
@given(values=SOME)
def test_histograms_count_everything_once(values: Any) -> None:
    low, high = float(min(values.min(), 0.0)), float(max(values.max(), 0.0))
    counts = _count(values, low, high)
    assert counts.shape == (BIN_COUNT,) and counts.sum() == values.size and counts.min() >= 0
    span = Fraction(high) - Fraction(low)
    if span < Fraction(2 * BIN_COUNT) / Fraction(float(FLOAT32.max)):
        return
    wanted = np.zeros(BIN_COUNT, np.int64)
    for value in values.reshape(-1).tolist():
        wanted[min(int((Fraction(value) - Fraction(low)) / span * BIN_COUNT), BIN_COUNT - 1)] += 1
    # float32 may put a value at an edge into the next bin, so that running totals differ by neighbours only.
    total, other = np.cumsum(counts), np.cumsum(wanted)
    assert np.all(total[:-1] <= other[1:]) and np.all(other[:-1] <= total[1:])


HISTOGRAMS = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(
    lambda found: np.resize(np.array(found, np.int64), BIN_COUNT)
)
BOUNDS = st.tuples(within(1e30), within(1e30)).map(lambda ends: (min(*ends, 0.0), max(*ends, 0.0)))


@covers(
    "quantize.ranges.rules._percentile",
    "quantize.ranges.rules._mse",
    "quantize.ranges.rules._kl",
    "quantize.ranges.rules._shrunk",
    does="the bounds stay within what was seen, and in order",
)
@given(counts=HISTOGRAMS, bounds=BOUNDS)
@example(counts=np.zeros(BIN_COUNT, np.int64), bounds=(0.0, 1.0))
def test_histogram_rules_stay_within(counts: Any, bounds: tuple[float, float]) -> None:
    for rule in (_percentile, _mse, _kl):
        low, high = rule(counts, bounds, activation_scale)
        assert bounds[0] <= low <= high <= bounds[1], rule.__name__
    assert _shrunk(bounds[1])[0] == bounds[1] and len(_shrunk(bounds[1])) == 36


@covers(
    "quantize.ranges.rules._squared_error",
    "quantize.ranges.rules._centres",
    does="the range of least squared error has no more of it than the full range",
)
@given(counts=HISTOGRAMS, bounds=BOUNDS)
def test_the_mse_rule_does_not_lose(counts: Any, bounds: tuple[float, float]) -> None:
    centres = _centres(bounds)
    assert np.all(np.diff(centres) >= 0) and bounds[0] <= centres[0] and centres[-1] <= bounds[1]
    found = _squared_error(counts, centres, activation_scale(*_mse(counts, bounds, activation_scale)))
    assert found <= _squared_error(counts, centres, activation_scale(*bounds)) * (1 + 1e-9)


@covers(
    "quantize.ranges.rules._divergence",
    does="the divergence of a range is a number of at least 0, or infinite",
)
@given(counts=HISTOGRAMS, bounds=BOUNDS, share=st.floats(0.1, 1.0))
def test_divergences_of_ranges_are_not_negative(
    counts: Any, bounds: tuple[float, float], share: float
) -> None:
    ends = (bounds[0] * share, bounds[1] * share)
    # Bins that only folded values fill are floored, which can take 1e-12 off a sum that is 1 otherwise.
    assert _divergence(counts, _centres(bounds), ends, activation_scale) >= -1e-9


@covers(
    "quantize.ranges.collect.collect_extremes",
    "quantize.ranges.collect.collect_histograms",
    "quantize.ranges.collect.each_image",
    does="extremes and counts are those of numpy, image by image",
)
@given(values=arrays(3, 2, 3, 2, 2))
def test_collected_statistics_are_exact(values: Any) -> None:
    node = helper.make_node("Relu", ["image"], ["scores"], "relu")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 2, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3, 2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    batches = [(batch, None) for batch in values]
    extremes = collect_extremes(model, ["image", "scores"], batches, threads=2)
    images = values.reshape(6, -1)
    np.testing.assert_array_equal(extremes.lows["image"], images.min(axis=1))
    np.testing.assert_array_equal(extremes.highs["scores"], np.maximum(images, 0).max(axis=1))
    found = collect_histograms(model, extremes, batches, threads=2)
    np.testing.assert_array_equal(found.counts["image"], _count(images, *extremes.bounds("image")))
    assert set(EXTREME_RULES).isdisjoint(HISTOGRAM_RULES)


@pytest.mark.robustness(
    "Numbers",
    "A tensor is the same number everywhere: zero, a denormal, one, huge",
    "every rule gives a scale that represents it within half a step",
)
@pytest.mark.parametrize("value", [0.0, 1e-44, 1.0, -1.0, 6.0, 3e38, -3e38])
@pytest.mark.parametrize("rule", RULES)
def test_constant_tensors(value: float, rule: str) -> None:
    values = np.full((4, 9), value, np.float32)
    entry = table_of(values).scale("t", rule)
    if abs(value) > TINY * 255:
        # The histogram's bins are 1/2048 wide, and ranges have ten significant bits.
        assert entry.rounded(values)[0, 0] == pytest.approx(value, rel=0.5 / 255 + 1 / 1024 + 1 / 2048)
    else:
        assert entry == ActivationScale(1.0, 0)
