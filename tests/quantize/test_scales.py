"""Scales and zero points of activations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.scales import ActivationScale, activation_scale

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
