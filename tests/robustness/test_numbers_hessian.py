"""Hessians of vectors that go through 8 bits, taken apart for speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantize.refine.rounding import _quadratic_form
from quantize.refine.weights import _hessian, _hessian_of, _root_of, _steps
from quantize.scales import ActivationScale
from tests.robustness.covering import covers


@covers(
    "quantize.refine.weights._hessian_of",
    "quantize.refine.weights._root_of",
    "quantize.refine.weights._times",
    does="taken apart by groups and without its middle, a Hessian is the same to the bit; its root is one",
)
@given(
    vectors=hnp.arrays(np.float32, (5, 3, 2), elements=st.floats(-9, 9, width=32)),
    zero_point=st.integers(0, 255),
    signed=st.booleans(),
    factors=st.none() | hnp.arrays(np.float32, (3, 2), elements=st.floats(1, 3, width=32)),
)
def test_hessians_of_vectors(vectors: Any, zero_point: int, signed: bool, factors: Any) -> None:
    entry = ActivationScale(0.0625, 0 if signed else zero_point, signed)
    plain = _steps(vectors if factors is None else vectors * factors, entry)
    wanted = _hessian(plain, entry.scale)
    vectors = np.tile(vectors, (600, 1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantize.refine.weights._BLOCK_BYTES", 4 * 2 * len(vectors) * 2)  # two groups
        found = _hessian_of(vectors, factors, entry)
    # Every vector 600 times: the sums are whole numbers, and the mean is the same.
    np.testing.assert_allclose(found, wanted, rtol=1e-14, atol=0)
    root = _root_of(vectors[:5], factors, entry)
    np.testing.assert_allclose(root.transpose(0, 2, 1) @ root, wanted, rtol=1e-13, atol=1e-12)


@covers(
    "quantize.refine.rounding._quadratic_form",
    does="the cost of a row's errors is that of the whole product, in however many blocks it is summed up",
)
@given(depth=st.sampled_from([1, 5, 95, 96, 97, 480, 481, 700]), seed=st.integers(0, 99))
def test_costs_are_those_of_the_whole_product(depth: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(0, 1, (2, 50, depth))
    hessian = vectors.transpose(0, 2, 1) @ vectors / 50
    error = random.normal(0, 1, (2, 3, depth))
    wanted = np.einsum("gmi,gij,gmj->gm", error, hessian, error)
    # Half a million products of about one at most, added up in two orders.
    np.testing.assert_allclose(_quadratic_form(error, hessian), wanted, rtol=1e-11)


@covers("quantize.refine.weights._hessian", does="sums of products are those of exact integers, in any order")
@given(steps=hnp.arrays(np.float32, (300, 2, 3), elements=st.integers(-255, 255)), seed=st.integers(0, 99))
def test_hessians_are_exact(steps: Any, seed: int) -> None:
    found = _hessian(steps, 0.5)
    integers = steps.astype(np.int64)
    for group in range(2):
        wanted = integers[:, group].T @ integers[:, group]
        np.testing.assert_array_equal(found[group], wanted * (0.25 / 300))
    shuffled = steps[np.random.default_rng(seed).permutation(300)]
    np.testing.assert_array_equal(_hessian(shuffled, 0.5), found)


@given(zero_point=st.integers(0, 255), seed=st.integers(0, 99))
def test_the_middle_of_the_steps_is_put_back(zero_point: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # More than fit one piece.
    steps = random.integers(-zero_point, 256 - zero_point, (2100, 2, 3)).astype(np.float32)
    found = _hessian(steps, 0.5, middle=128 - zero_point, reach=128)
    np.testing.assert_array_equal(found, _hessian(steps, 0.5))
