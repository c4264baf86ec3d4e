"""The arithmetic of the refinement passes, for channels of zeros, denormals and huge numbers."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantize.errors import EngineError
from quantize.refine.biases import _shifted, _with_bias
from quantize.refine.equalize import Channels, _room, equalize
from quantize.refine.gain import gain_of, is_plausible, refine_gain
from quantize.refine.network import Draft
from quantize.refine.observe import Observations
from quantize.refine.ranking import exceeds_error, ranked, surely_worse, ties
from quantize.refine.rounding import (
    PAIR_LIMIT,
    Grid,
    _columns_first,
    _inverse_factor,
    _pass_on,
    _scales_of,
    best_rounding,
    best_scales,
    damped,
    gptq,
    nearest,
    within_pairs,
)
from quantize.refine.scaling import MULTIPLIERS, _spread, best_multiplier
from quantize.refine.weights import _hessian, _levels, _steps
from quantize.scales import ActivationScale, activation_scale
from quantize.weights import Parameters
from tests.robustness.covering import FLOAT32, arrays, covers, exact, within

GRIDS = st.sampled_from([Grid(127), Grid(64), Grid(127, paired=True)])
MODERATE = within(1e6)
# Vectors as a layer may see them: dead channels, constants, denormals, sizes up to where squares overflow.
VECTORS = st.one_of(
    arrays(6, 1, 4, elements=MODERATE),
    arrays(6, 1, 4, elements=within(1e-30)),
    arrays(6, 1, 4, elements=within(1e18)),
    st.builds(lambda value: np.full((6, 1, 4), value, np.float32), MODERATE),
)


def hessian_of(vectors: Any) -> Any:
    """As the pass makes it: of vectors that went through 8 bits of their own range."""
    entry = activation_scale(float(vectors.min()), float(vectors.max()))
    return _hessian(_steps(vectors, entry), entry.scale)


def bounded(integers: Any, grid: Grid) -> bool:
    if np.abs(integers.astype(int)).max(initial=0) > grid.limit:
        return False
    pairs = integers.astype(int)[:, :, : integers.shape[2] // 2 * 2].reshape(*integers.shape[:2], -1, 2)
    high, low = np.maximum(pairs, 0).sum(axis=3), np.minimum(pairs, 0).sum(axis=3)
    return not grid.paired or bool(np.all(high <= PAIR_LIMIT) and np.all(low >= -PAIR_LIMIT))


@covers(
    "quantize.refine.rounding.gptq",
    "quantize.refine.rounding.Gptq.rounded",
    "quantize.refine.rounding._inverse_factor",
    "quantize.refine.rounding._inverse_of_cholesky",
    "quantize.refine.rounding.damped",
    does="integers keep their limit and the bound of their pair, or one line says that the inputs are absurd",
)
@given(weights=arrays(1, 3, 4), zeroed=st.integers(0, 4), vectors=VECTORS, grid=GRIDS)
def test_gptq_never_leaves_its_grid(weights: Any, zeroed: int, vectors: Any, grid: Grid) -> None:
    weights[:, :, :zeroed] = 0.0
    hessian = hessian_of(vectors)
    scales = np.maximum(np.abs(weights).max(axis=2) / grid.limit, FLOAT32.tiny).astype(np.float32)
    damp = damped(hessian)
    assert np.all(np.einsum("gkk->gk", damp) > 0)
    assert bounded(gptq(weights, hessian, scales, grid), grid)
    upper = _inverse_factor(hessian, np.arange(4)[None])
    assert np.all(np.isfinite(upper)) and np.all(np.einsum("gkk->gk", upper) > 0)


@covers(
    "quantize.refine.rounding._pass_on",
    "quantize.refine.rounding._columns_first",
    "quantize.refine.rounding._taken",
    does="every column has taken over the errors of all columns before it, once, when its turn comes",
)
@given(depth=st.sampled_from([1, 2, 7, 64, 127, 128, 129, 300]), seed=st.integers(0, 99))
def test_errors_are_passed_on_once(depth: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights, errors = random.normal(0, 1, (2, 3, depth)), random.normal(0, 1, (2, depth, 3))
    upper = np.triu(random.normal(0, 1, (2, depth, depth)))
    order = np.stack([random.permutation(depth) for _ in range(2)])
    free = _columns_first(weights, order)
    wanted = np.stack([w[:, o].T for w, o in zip(weights, order, strict=True)])
    np.testing.assert_array_equal(free, wanted)
    for column in range(depth):
        before = np.einsum("gi,gim->gm", upper[:, :column, column], errors[:, :column])
        # At most 300 products of about one, each with a relative error of 1e-16, in two orders.
        np.testing.assert_allclose(free[:, column], wanted[:, column] - before, rtol=0, atol=1e-12)
        _pass_on(free, errors, upper, column + 1)


@pytest.mark.robustness(
    "Numbers",
    "The inputs of an operator are so large that their squares overflow",
    "one line says so instead of rounding weights at random",
)
@pytest.mark.parametrize("size", [np.inf, np.nan, 1e200])
def test_hessians_that_overflow_are_refused(size: float) -> None:
    with np.errstate(all="ignore"):
        hessian = _hessian(np.ones((3, 1, 4), np.float32), size)
    with pytest.raises(EngineError, match="not finite or of absurd size"):
        gptq(np.ones((1, 2, 4), np.float32), hessian, np.full((1, 2), 0.01, np.float32), Grid(127))


@covers(
    "quantize.refine.rounding.nearest",
    "quantize.refine.rounding.within_pairs",
    does="integers are off by half a step at most, and only pairs beyond the bound give way, by equal shares",
)
@given(weights=arrays(1, 2, 5), grid=GRIDS)
def test_nearest(weights: Any, grid: Grid) -> None:
    scales = np.maximum(np.abs(weights).max(axis=2) / grid.limit, FLOAT32.tiny).astype(np.float32)
    found = nearest(weights, scales, grid)
    assert bounded(found, grid)
    plain = nearest(weights, scales, Grid(grid.limit))
    for w, q, s in zip(
        exact(weights), plain.reshape(-1).tolist(), exact(np.repeat(scales.reshape(-1), 5)), strict=True
    ):
        assert abs(q * s - w) <= s * (Fraction(1, 2) + Fraction(grid.limit, 1 << 22))
    moved = found.astype(int) - plain.astype(int)
    assert np.all(moved * np.sign(plain) <= 0)
    np.testing.assert_array_equal(found, within_pairs(plain) if grid.paired else plain)


@covers(
    "quantize.refine.rounding.best_scales",
    "quantize.refine.rounding.best_rounding",
    "quantize.refine.rounding._cost",
    "quantize.refine.rounding._scales_of",
    "quantize.refine.weights._levels",
    does="each row gets a scale that was tried, 1 if it is zero, also where errors under- or overflow",
)
@given(weights=arrays(1, 3, 4), zeroed=st.integers(0, 3), vectors=VECTORS, grid=GRIDS, shared=st.booleans())
def test_scales_are_among_those_tried(
    weights: Any, zeroed: int, vectors: Any, grid: Grid, shared: bool
) -> None:
    weights[:, :zeroed] = 0.0
    levels = _levels(grid)
    with np.errstate(over="ignore", invalid="ignore"):
        found = best_scales(weights, hessian_of(vectors), grid, levels, shared=shared)
    assert found.dtype == np.float32 and np.all(np.isfinite(found)) and np.all(found >= FLOAT32.tiny)
    largest = np.abs(weights).max(axis=2)
    if shared:
        largest = np.full_like(largest, largest.max())
    for one, most in zip(found.reshape(-1), largest.reshape(-1), strict=True):
        tried = {float(max(most / np.float32(level), FLOAT32.tiny)) for level in levels}
        assert float(one) in (tried if most > 0 else {1.0})
    if not shared:
        fine, integers = best_rounding(weights, hessian_of(vectors), grid, _levels(grid, fine=True))
        assert bounded(integers, grid) and np.all(np.isfinite(fine)) and np.all(fine >= FLOAT32.tiny)
        tried_finely = _scales_of(largest, _levels(grid, fine=True))
        assert np.all((tried_finely == fine).any(axis=0))
        assert not integers[:, :zeroed].any() and np.all(fine[:, :zeroed] == 1.0)


@covers(
    "quantize.refine.weights._steps",
    does="vectors become what exact arithmetic makes of 8 bits, give or take the rounding of float32",
)
@given(values=arrays(8), low=within(1e6), high=within(1e6))
def test_emulated_activations_are_those_of_the_scale(values: Any, low: float, high: float) -> None:
    entry = activation_scale(min(low, high), max(low, high))
    with np.errstate(over="ignore"):
        found = _steps(values, entry).astype(np.float64) * entry.scale
    least, most = entry.bounds
    for x, y in zip(exact(values), exact(found), strict=True):
        wanted = min(max(x, Fraction(least)), Fraction(most))
        assert abs(y - wanted) <= Fraction(entry.scale) * (Fraction(1, 2) + Fraction(1, 1 << 14))
        steps = y / Fraction(entry.scale)
        assert abs(steps - round(steps)) <= Fraction(1, 1 << 14)


@covers(
    "quantize.refine.equalize.equalize",
    "quantize.refine.equalize._room",
    does="factors lie in [1, 3], and no channel leaves its tensor's range by them",
)
@given(
    lows=arrays(5, 4),
    highs=arrays(5, 4),
    dead=st.integers(0, 4),
    free=st.booleans(),
    exponent=st.sampled_from([0.0, 0.5]),
)
def test_factors_keep_channels_in_range(
    lows: Any, highs: Any, dead: int, free: bool, exponent: float
) -> None:
    lows, highs = np.minimum(lows, highs), np.maximum(lows, highs)
    lows[:, :dead], highs[:, :dead] = 0.0, 0.0
    entry = activation_scale(float(lows.min()), float(highs.max()))
    draft = Draft({}, {"t": entry})
    seen = Observations(np.zeros((5, 2), np.float32), {"t": lows}, {"t": highs}, {}, {})
    with np.errstate(over="ignore"):
        made = equalize(draft, [Channels("t", free)], seen, exponent=exponent)
        room = _room(draft, "t", seen)
    assert not np.any(np.isnan(room))
    if not free and exponent == 0.0:
        assert made.factors == {}
        return
    factors = made.factors["t"].astype(np.float64)
    assert np.all((factors >= 1.0) & (factors <= 3.0 * (1 + 2**-10)))
    least, most = entry.bounds
    grown = factors > 1.0
    # A channel that is enlarged has room for 1.2 times its largest value.
    assert np.all((np.maximum(highs.max(axis=0), 0.0) * factors)[grown] <= max(most, 0) * (1 + 1e-6))
    assert np.all((np.minimum(lows.min(axis=0), 0.0) * factors)[grown] >= min(least, 0) * (1 + 1e-6))


@covers(
    "quantize.refine.gain.gain_of",
    "quantize.refine.gain.is_plausible",
    does="the gain of scaled scores is that scale; an absurd one, or NaN, is not applied",
)
@given(
    scores=arrays(4, 5, elements=st.floats(-100, 100, width=16)), scale=st.sampled_from([0.25, 0.5, 1.0, 2.0])
)
def test_gains(scores: Any, scale: float) -> None:
    found = gain_of(scores * np.float32(scale), scores)
    centred = scores.astype(np.float64) - scores.mean(axis=1, keepdims=True, dtype=np.float64)
    if np.abs(centred).max() < 1e-6:
        assert np.isfinite(found)
    else:
        assert found == pytest.approx(scale, rel=2**-10)
    assert is_plausible(found) is (0.5 <= found <= 2.0)
    assert not is_plausible(float("nan")) and not is_plausible(float("inf"))


@covers(
    "quantize.refine.gain.refine_gain",
    "quantize.refine.biases._with_bias",
    "quantize.refine.biases._shifted",
    does="a gain changes no integer; a shifted bias fits int32 and is off by half a step at most",
)
@given(
    scale=st.floats(float(np.float32(1e-20)), float(np.float32(1e10)), width=32),
    gain=st.floats(0.5, 2.0),
    shift=hnp.arrays(np.float64, 3, elements=st.floats(-1e12, 1e12)),
)
def test_gain_and_shift(scale: float, gain: float, shift: Any) -> None:
    weights = np.array([[1, -127], [0, 0], [64, 3]], np.int8)
    scales = np.full(3, scale, np.float32)
    plain = Parameters(weights, scales, 0, None, np.float32(0.5) * scales)
    with_bias = _with_bias(plain)
    assert with_bias.bias is not None and with_bias.bias.tolist() == [0, 0, 0]
    found = _shifted(with_bias, shift)
    assert found.bias is not None and np.all(np.abs(found.bias.astype(np.int64)) <= 1 << 30)
    for wanted, integer, step in zip(exact(shift), found.bias.tolist(), exact(found.bias_scale), strict=True):
        limit = step * (1 << 30)
        clipped = min(max(wanted, -limit), limit)
        assert abs(integer * step - clipped) <= step * (Fraction(1, 2) + Fraction(1, 1 << 16))
    draft = Draft({"o": True}, {"y": ActivationScale(1.0, 7)}, parameters={"o": found})
    made = refine_gain(draft, "o", "y", gain)
    np.testing.assert_array_equal(made.parameters["o"].weights, weights)
    np.testing.assert_array_equal(made.parameters["o"].bias, found.bias)
    np.testing.assert_allclose(made.parameters["o"].scale * np.float32(gain), scales, rtol=1e-6)
    assert made.scales["y"].zero_point == 7


DIVERGENCES = hnp.arrays(np.float64, 6, elements=st.floats(0, 100))


@covers(
    "quantize.refine.ranking.ranked",
    "quantize.refine.ranking.ties",
    "quantize.refine.ranking.surely_worse",
    "quantize.refine.ranking.exceeds_error",
    does="every candidate is ranked once, the first ties with the best, equal numbers exceed no error",
)
@given(first=DIVERGENCES, second=DIVERGENCES, third=DIVERGENCES)
def test_ranking(first: Any, second: Any, third: Any) -> None:
    candidates = {"a": first, "b": second, "c": third}
    order = ranked(candidates)
    assert sorted(order) == ["a", "b", "c"]
    best = min(candidates.values(), key=lambda values: float(values.mean()))
    assert ties(candidates[order[0]], best)
    assert [candidates[name].mean() for name in order[1:]] == sorted(
        candidates[name].mean() for name in order[1:]
    )
    assert not exceeds_error(np.zeros(6), 0.5) and not exceeds_error(np.ones(1), 0.5)
    assert ties(first, first) and not surely_worse(first, first)


@covers(
    "quantize.refine.scaling.best_multiplier",
    "quantize.refine.scaling._if_less",
    "quantize.refine.scaling._spread",
    does="a wider range is chosen only if its divergence is lower on average; images are spread evenly",
)
@given(
    found=st.lists(DIVERGENCES, min_size=5, max_size=5),
    available=st.integers(1, 50),
    wanted=st.integers(1, 50),
)
def test_multipliers(found: list[Any], available: int, wanted: int) -> None:
    entries = [ActivationScale(float(number), 0) for number in range(1, 6)]
    ways = dict(zip(MULTIPLIERS, entries[1:], strict=True))
    chosen = best_multiplier(
        entries[0], ways, lambda entry, of: found[int(entry.scale) - 1][of], found[0][:3], len(found[0])
    )
    if chosen != 1.0:
        assert found[int(ways[chosen].scale) - 1].mean() < found[0].mean()
    indices = _spread(available, wanted).tolist()
    assert len(indices) == min(available, wanted) == len(set(indices))
    assert all(0 <= index < available for index in indices)
    gaps = [b - a for a, b in itertools.pairwise(indices)]
    assume(gaps)
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.robustness(
    "Numbers", "A weight channel is zero everywhere", "it gets scale 1 and integers of zero, with any Hessian"
)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e15])
def test_channels_of_zeros(size: float) -> None:
    hessian = _hessian(np.ones((3, 1, 4), np.float32), size)
    weights = np.zeros((1, 2, 4), np.float32)
    scales = best_scales(weights, hessian, Grid(127), np.array([127.0]))
    assert scales.tolist() == [[1.0, 1.0]]
    assert not gptq(weights, hessian, scales, Grid(127)).any()
