"""Scales and zero points of activations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.scales import ActivationScale, activation_scale, scale_maker
from quantize.target import PORTABLE, QNN, TENSORRT

ENDS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(low=ENDS, high=ENDS)
def test_zero_is_exact_and_the_range_is_covered(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    entry = activation_scale(low, high)
    assert 0 <= entry.zero_point <= 255 and isinstance(entry.zero_point, int)
    assert entry.scale > 0 and float(np.float32(entry.scale)) == entry.scale
    least, most = entry.bounds
    assert least <= 0 <= most  # the integer `zero_point` is 0 exactly
    if entry != ActivationScale(1.0, 0):
        # Rounding the zero point moves the ends by half a step; float32 rounds the scale.
        step = entry.scale * (0.5 + 1e-4)
        assert least - step <= min(low, 0.0) and max(high, 0.0) <= most + step
        assert most - least <= (max(high, 0.0) - min(low, 0.0)) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.0, ActivationScale(1.0, 0)),
        (0.0, 1e-45, ActivationScale(1.0, 0)),
        (-100.0, 155.0, ActivationScale(1.0, 100)),
        (0.0, 255.0, ActivationScale(1.0, 0)),
        (-255.0, 0.0, ActivationScale(1.0, 255)),
        (3.0, 510.0, ActivationScale(2.0, 0)),
        (-510.0, -3.0, ActivationScale(2.0, 255)),
    ],
)
def test_exact_cases(low: float, high: float, expected: ActivationScale) -> None:
    assert activation_scale(low, high) == expected


@pytest.mark.parametrize(
    ("entry", "low", "high", "expected"),
    [
        (ActivationScale(0.01, 0), 0.0, math.inf, ActivationScale(0.01, 0)),
        (ActivationScale(0.01, 0), 0.0, 6.0, ActivationScale(0.01, 0)),
        (ActivationScale(1.0, 0), 0.0, 255.4, ActivationScale(1.0, 0)),
        (ActivationScale(1.0, 0), 0.0, 127.5, ActivationScale(0.5, 0)),
        (ActivationScale(1.0, 100), 0.0, math.inf, ActivationScale(float(np.float32(155 / 255)), 0)),
        (ActivationScale(1.0, 100), -50.0, 205.0, ActivationScale(float(np.float32(205 / 255)), 62)),
    ],
)
def test_a_clip_narrows_a_scale(
    entry: ActivationScale, low: float, high: float, expected: ActivationScale
) -> None:
    assert entry.within(low, high) == expected


@given(low=ENDS, high=ENDS)
def test_signed_scales_are_symmetric_and_cover_the_range(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    entry = activation_scale(low, high, signed=True)
    assert (entry.zero_point, entry.signed, entry.dtype) == (0, True, np.int8)
    if entry != ActivationScale(1.0, 0, signed=True):
        largest = max(-min(low, 0.0), high, 0.0)
        assert 127 * entry.scale == pytest.approx(largest, rel=1e-6)
        assert entry.bounds == (-128 * entry.scale, 127 * entry.scale)


def test_rounding_saturates_at_the_integers_of_the_type() -> None:
    values = np.array([-1e9, -1.0, 0.0, 0.26, 1e9])
    assert ActivationScale(0.5, 2).rounded(values).tolist() == [-1.0, -1.0, 0.0, 0.5, 126.5]
    assert ActivationScale(0.5, 0, signed=True).rounded(values).tolist() == [-64.0, -1.0, 0.0, 0.5, 63.5]


def test_a_signed_scale_stands_for_no_clip() -> None:
    entry = activation_scale(-1.0, 3.0, signed=True)
    assert entry.within(0.0, 2.0) == entry


def test_makers_of_scales_follow_the_target() -> None:
    assert scale_maker(TENSORRT)(-1.0, 3.0) == activation_scale(-1.0, 3.0, signed=True)
    assert scale_maker(PORTABLE)(-1.0, 3.0) == activation_scale(-1.0, 3.0)
    # Widened upwards: zero and what lies below stay where they were.
    assert scale_maker(QNN)(-1e-5, 0.0) == activation_scale(-1e-5, 9e-5)
