"""Scale search, GPTQ and pair bounds, against brute force and plain rounding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.refine.rounding import (
    PAIR_LIMIT,
    Grid,
    best_rounding,
    best_scales,
    damped,
    gptq,
    nearest,
    within_pairs,
)

Array = np.ndarray[Any, Any]


def hessian(groups: int, depth: int, *, seed: int = 0, samples: int = 400) -> Any:
    """Of strongly correlated inputs, as neighbouring channels of a network are."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(groups, depth, depth)) / np.sqrt(depth) + np.eye(depth)
    vectors = random.normal(size=(groups, samples, depth)) @ mix + 0.5
    return (vectors.transpose(0, 2, 1) @ vectors / samples).astype(np.float32)


def loss(weights: Array, integers: Array, scales: Array, h: Array) -> Any:
    error = weights - integers * scales[:, :, None]
    return np.einsum("gmk,gkl,gml->gm", error, h, error)


def are_paired(integers: Array) -> bool:
    even = integers.shape[2] // 2 * 2
    a, b = integers[:, :, 0:even:2].astype(int), integers[:, :, 1:even:2].astype(int)
    high = np.maximum(a, 0) + np.maximum(b, 0)
    low = np.minimum(a, 0) + np.minimum(b, 0)
    return bool((high <= PAIR_LIMIT).all() and (low >= -PAIR_LIMIT).all())


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("groups", "rows", "depth"), [(1, 12, 40), (3, 4, 9), (8, 1, 9), (1, 5, 300)])
def test_gptq_loses_less_than_rounding(groups: int, rows: int, depth: int, paired: bool) -> None:
    weights = np.random.default_rng(1).normal(size=(groups, rows, depth)).astype(np.float32)
    h = hessian(groups, depth)
    grid = Grid(127, paired)
    scales = (np.abs(weights).max(axis=2) / 31).astype(np.float32)  # coarse, so that rounding matters
    plain, better = nearest(weights, scales, grid), gptq(weights, h, scales, grid)
    assert np.abs(better).max() <= 127
    assert not paired or are_paired(better)
    assert loss(weights, better, scales, h).sum() < 0.8 * loss(weights, plain, scales, h).sum()


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("groups", "rows", "depth"), [(16, 1, 9), (1, 12, 16), (2, 6, 27)])
def test_many_scales_lose_less_than_few(groups: int, rows: int, depth: int, paired: bool) -> None:
    """Each row keeps the scale with the least loss behind GPTQ, so more draws never lose more."""
    weights = np.random.default_rng(2).normal(size=(groups, rows, depth)).astype(np.float32)
    weights[0, 0] = 0.0
    h, grid = hessian(groups, depth), Grid(127, paired)
    few, many = np.array([127.0, 110.0]), np.arange(127.0, 63.0, -1.0)
    losses = []
    for levels in (few, many):
        scales, integers = best_rounding(weights, h, grid, levels)
        assert np.abs(integers).max() <= 127 and integers.dtype == np.int16
        assert not paired or are_paired(integers)
        np.testing.assert_array_equal(integers, gptq(weights, h, scales, grid))
        assert (integers[0, 0] == 0).all() and scales[0, 0] == 1.0
        losses.append(loss(weights, integers, scales, h))
    # Beyond a millionth, the rounding of float32 products.
    assert (losses[1] <= losses[0] * (1 + 1e-6)).all()
    assert losses[1].sum() < 0.8 * losses[0].sum()


def test_gptq_is_rounding_where_inputs_are_independent() -> None:
    weights = np.random.default_rng(1).normal(size=(2, 3, 10)).astype(np.float32)
    h = np.broadcast_to(np.diag(np.arange(1, 11)).astype(np.float32), (2, 10, 10))
    scales = np.full((2, 3), 0.05, dtype=np.float32)
    np.testing.assert_array_equal(gptq(weights, h, scales, Grid(127)), nearest(weights, scales, Grid(127)))


def test_gptq_finds_the_best_of_all_roundings_up_and_down() -> None:
    """Two correlated inputs: the error of the first column can be made good in the second."""
    h = np.array([[[1.0, 0.95], [0.95, 1.0]]], dtype=np.float32)
    scales = np.ones((1, 1), dtype=np.float32)
    for first, second in itertools.product(np.linspace(0.1, 0.9, 5), repeat=2):
        weights = np.array([[[first, second]]], dtype=np.float32)
        found = loss(weights, gptq(weights, h, scales, Grid(127)), scales, h).item()
        corners = itertools.product((0, 1), repeat=2)
        best = min(loss(weights, np.array([[corner]]), scales, h).item() for corner in corners)
        plain = loss(weights, nearest(weights, scales, Grid(127)), scales, h).item()
        assert found <= plain + 1e-6
        assert found <= 4 * best + 0.05  # greedy, column by column: near the best, not always it


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-127, 127), min_size=1, max_size=9))
def test_pairs_give_way_as_little_as_possible(values: list[int]) -> None:
    given_ = np.array(values, dtype=np.int16).reshape(1, 1, -1)
    found = within_pairs(given_)
    assert are_paired(found)
    assert np.all(np.sign(found) * np.sign(given_) >= 0)
    for start in range(0, len(values) - 1, 2):
        a, b = values[start : start + 2]
        moved = np.sum(np.square(found[0, 0, start : start + 2] - np.array([a, b])))
        excess = max(max(a, 0) + max(b, 0), max(-a, 0) + max(-b, 0)) - PAIR_LIMIT
        # Of all integer pairs that close a gap of `excess`, equal shares move least.
        least = 0 if excess <= 0 else (excess // 2) ** 2 + ((excess + 1) // 2) ** 2
        assert moved == least
    if len(values) % 2:
        assert found[0, 0, -1] == values[-1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_gptq_keeps_every_pair(seed: int, depth: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.choice([-1.0, 0.9, 1.0], size=(1, 6, depth)).astype(np.float32)
    scales = (np.abs(weights).max(axis=2) / 127).astype(np.float32)
    assert are_paired(gptq(weights, hessian(1, depth, seed=seed), scales, Grid(127, paired=True)))


def test_the_scale_search_is_never_worse_than_the_full_range() -> None:
    weights = np.random.default_rng(3).standard_t(3, size=(1, 20, 30)).astype(np.float32)
    h = hessian(1, 30)
    levels = np.array([127.0, 112.0, 96.0, 80.0, 64.0])
    grid = Grid(127, paired=True)
    full = (np.abs(weights).max(axis=2) / 127).astype(np.float32)
    found = best_scales(weights, h, grid, levels)
    before = loss(weights, nearest(weights, full, grid), full, h)
    after = loss(weights, nearest(weights, found, grid), found, h)
    assert np.all(after <= before * (1 + 1e-4))  # the search itself works in float32
    assert after.sum() < before.sum()


def test_one_scale_for_all_rows() -> None:
    weights = np.random.default_rng(3).normal(size=(2, 4, 9)).astype(np.float32)
    found = best_scales(weights, hessian(2, 9), Grid(127), np.array([127.0, 100.0]), shared=True)
    assert np.unique(found).size == 1


def test_rows_and_inputs_of_zeros() -> None:
    weights = np.zeros((1, 2, 4), dtype=np.float32)
    weights[0, 1] = [1.0, -1.0, 0.5, 0.25]
    h = np.zeros((1, 4, 4), dtype=np.float32)
    scales = best_scales(weights, h, Grid(127), np.array([127.0]))
    assert scales[0, 0] == 1.0
    found = gptq(weights, h, scales, Grid(127))
    assert not found[0, 0].any()
    np.testing.assert_array_equal(found[0, 1], [127, -127, 64, 32])
    assert np.all(np.linalg.eigvalsh(damped(h)[0]) > 0)
