"""Hessians of vectors that go through 8 bits, taken apart for speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
