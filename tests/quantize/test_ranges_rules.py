"""Range rules, on histograms whose best range is known."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantize.errors import EngineError
from quantize.ranges import RULES, Extremes, Histograms, RangeTable
from quantize.ranges import rules as module
from quantize.ranges.collect import BIN_COUNT, _count
from quantize.scales import ActivationScale, activation_scale, steady


def table(*values: Any) -> RangeTable:
    """The table of one tensor "x", from its values image by image."""
    arrays = [np.asarray(value, dtype=np.float32).reshape(-1) for value in values]
    lows = np.array([array.min() for array in arrays])
    highs = np.array([array.max() for array in arrays])
    extremes = Extremes({"x": lows}, {"x": highs})
    counts = sum(_count(array, *extremes.bounds("x")) for array in arrays)
    return RangeTable(extremes, lambda: Histograms({"x": np.asarray(counts)}))


def bounds(ranges: RangeTable, rule: str) -> tuple[float, float]:
    return ranges.scale("x", rule).bounds


NORMAL = np.random.default_rng(5).normal(0, 1, 200_000)


def test_minmax_takes_all() -> None:
    assert table([-1.0, 0.0], [0.5, 3.0]).scale("x", "minmax") == activation_scale(-1.0, 3.0)


def test_quantile_ignores_the_few_images_of_massive_activations() -> None:
    ranges = table(*([[-1.0, 2.0]] * 8), [-30.0, 60.0], [-30.0, 60.0])
    assert ranges.scale("x", "quantile") == activation_scale(-1.0, 2.0)


def test_quantile_interpolates_between_images() -> None:
    ranges = table(*[[0.0, float(high)] for high in range(1, 6)])  # 1 + 0.65 · 4 = 3.6
    assert bounds(ranges, "quantile")[1] == pytest.approx(3.6, rel=2**-10)  # ten significant bits


def test_a_tensor_that_is_zero_on_most_images_keeps_a_range() -> None:
    ranges = table(*([[0.0]] * 9), [0.0, 4.0])
    assert ranges.scale("x", "quantile") == activation_scale(0.0, 4.0)


def test_percentile_drops_outliers_of_both_ends() -> None:
    values = np.concatenate([np.linspace(-1, 1, 1_000_000), [50.0, -50.0]])
    low, high = bounds(table(values), "percentile")
    width = 100 / BIN_COUNT  # of a bin
    assert low == pytest.approx(-1.0, abs=2 * width) and high == pytest.approx(1.0, abs=2 * width)


def test_percentile_of_a_uniform_distribution() -> None:
    low, high = bounds(table(np.linspace(0, 10, 1_000_000)), "percentile")
    assert low == 0.0 and high == pytest.approx(10.0, abs=2 * 10 / BIN_COUNT)


def test_mse_keeps_a_uniform_distribution() -> None:
    low, high = bounds(table(np.linspace(-1, 1, 100_000)), "mse")
    assert (low, high) == pytest.approx((-1.0, 1.0), abs=0.03)


@pytest.mark.parametrize("rule", ["mse", "kl"])
def test_searches_cut_long_tails(rule: str) -> None:
    values = np.concatenate([NORMAL, [-12.0, 12.0]])
    low, high = bounds(table(values), rule)
    assert -12.0 < low < -2.0 and 2.0 < high < 12.0


def test_mse_is_the_best_of_its_candidates() -> None:
    values = np.concatenate([np.abs(NORMAL), [15.0]])

    def error(entry: ActivationScale) -> float:
        integers = np.clip(np.rint(values / entry.scale) + entry.zero_point, 0, 255)
        return float(np.mean(np.square((integers - entry.zero_point) * entry.scale - values)))

    found = error(table(values).scale("x", "mse"))
    best = min(error(activation_scale(0.0, 15.0 * fraction)) for fraction in np.arange(0.3, 1.001, 0.02))
    assert found <= best * 1.02  # the histogram knows values to 1/2048 of the range only


def test_mse_searches_each_end_for_itself() -> None:
    values = np.concatenate([np.abs(NORMAL), [-0.5] * 20_000, [20.0]])
    low, high = bounds(table(values), "mse")
    assert low == pytest.approx(-0.5, abs=0.1) and high < 16.0


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_copes_with_odd_tensors(rule: str) -> None:
    for values in ([0.0, 0.0], [5.0, 5.0], [-3.0, -3.0], [0.0, 1e-42], [-1e-30, 1e30], [0.0] * 999 + [7.0]):
        entry = table(values).scale("x", rule)
        assert np.isfinite(entry.scale) and entry.scale > 0 and 0 <= entry.zero_point <= 255
    assert table([0.0]).scale("x", rule) == ActivationScale(1.0, 0)


@settings(max_examples=40, deadline=None)
@given(
    values=hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1000, 1000, width=32)),
    rule=st.sampled_from(RULES),
)
def test_no_rule_leaves_the_range_of_the_values(values: Any, rule: str) -> None:
    low, high = bounds(table(values), rule)
    full = activation_scale(float(values.min()), float(values.max()))
    # A step by the zero points, and a quarter by ten significant bits at each end.
    step = full.scale * 1.5
    assert full.bounds[0] - step <= low <= 0 <= high <= full.bounds[1] + step


def test_histograms_are_collected_once_and_only_when_needed() -> None:
    calls = 0

    def make() -> Histograms:
        nonlocal calls
        calls += 1
        return Histograms({"x": np.full(BIN_COUNT, 4)})

    ranges = RangeTable(Extremes({"x": np.array([0.0])}, {"x": np.array([1.0])}), make)
    for rule in ("minmax", "quantile"):
        ranges.scale("x", rule)
    assert calls == 0
    assert ranges.scale("x", "mse") == ranges.scale("x", "mse")
    ranges.scale("x", "kl")
    assert calls == 1


def test_unknown_tensors_and_rules_are_named() -> None:
    with pytest.raises(EngineError, match="no range was measured for tensor 'y'"):
        table([1.0]).scale("y", "minmax")
    with pytest.raises(EngineError, match="no range rule 'magic'; known are quantile, minmax"):
        table([1.0]).scale("x", "magic")


def test_divergence_of_nothing_is_infinite() -> None:
    counts = np.zeros(BIN_COUNT, dtype=np.int64)
    counts[-1] = 5
    centres = module._centres((0.0, 1.0))
    assert module._divergence(counts, centres, (0.0, 0.5), activation_scale) == np.inf  # only folded values
    assert module._divergence(counts, centres, (0.0, 0.0), activation_scale) == np.inf  # no bin inside
    assert module._divergence(counts, centres, (0.0, 1.0), activation_scale) == pytest.approx(0.0)


def test_scores_never_saturate_whatever_the_rule() -> None:
    lows, highs = np.zeros(4), np.array([1.0, 1.0, 2.0, 9.0])
    extremes = Extremes({"x": lows, "scores": lows}, {"x": highs, "scores": highs})
    ranges = RangeTable(extremes, lambda: pytest.fail("not needed"), scores=frozenset({"scores"}))
    assert ranges.scale("scores", "quantile") == ranges.scale("x", "minmax")
    assert ranges.scale("x", "quantile").bounds[1] < 9.0
    assert ranges.scale("scores", "mse") == ranges.scale("x", "minmax")
    with pytest.raises(EngineError, match="no range rule 'magic'"):
        ranges.scale("scores", "magic")


def test_rules_search_with_the_scale_of_the_deployment() -> None:
    """Nearly all values are at one end: an asymmetric range cuts the other off, a symmetric one need not."""
    counts = np.zeros(BIN_COUNT, dtype=np.int64)
    counts[-400:] = 100_000
    counts[0] = 1
    extremes = Extremes({"x": np.array([-1.0])}, {"x": np.array([1.0])})
    makers = {
        signed: RangeTable(
            extremes, lambda: Histograms({"x": counts}), partial(activation_scale, signed=signed)
        )
        for signed in (False, True)
    }
    unsigned, signed = (makers[kind].scale("x", "mse") for kind in (False, True))
    assert signed.signed and signed.zero_point == 0
    assert not unsigned.signed
    assert unsigned.bounds[0] > -0.9
    assert signed.bounds[1] == pytest.approx(1.0, abs=0.02)


@given(st.floats(-1e30, 1e30, allow_nan=False))
def test_rounding_errors_of_a_cpu_do_not_reach_the_scales(end: float) -> None:
    found = steady(end)
    assert found == pytest.approx(end, rel=2**-10, abs=0)
    assert steady(found) == found


def test_ranges_that_differ_in_their_last_bits_give_one_scale() -> None:
    random = np.random.default_rng(4)
    highs = random.uniform(0.5, 20.0, 500)
    scales = [
        RangeTable(
            Extremes({"x": np.array([-high / 3])}, {"x": np.array([high])}), lambda: pytest.fail("not needed")
        ).scale("x", "minmax")
        for high in np.concatenate([highs, highs * (1 + 3e-7)])
    ]
    differing = sum(one != other for one, other in zip(scales[:500], scales[500:], strict=True))
    assert differing <= 2  # without rounding: nearly all of them
