"""Scales, zero points, weights and biases against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.graph import GraphIndex
from quantize.portability import pairs_are_bounded
from quantize.scales import ActivationScale, activation_scale, scale_maker
from quantize.target import PORTABLE, QNN, TENSORRT
from quantize.weights import (
    RoundedWeights,
    float_parameters,
    least_scales,
    quantize_parameters,
    quantize_weights,
    round_bias,
    rounded_weights,
    weight_scales,
)
from tests.quantize.net import Net
from tests.robustness.covering import FINITE, FLOAT32, ROUNDING, arrays, covers, exact, half_even, within

HALF = Fraction(1, 2)
TINY, LARGEST = float(FLOAT32.tiny), float(FLOAT32.max)
# Rounding to float32 moves a normal number by so much at most, relatively.
ULP = Fraction(1, 1 << 24)

SCALES = st.floats(TINY, float(np.float32(1e30)), width=32)


@covers(
    "quantize.scales.activation_scale",
    "quantize.scales.ActivationScale.bounds",
    does="scale and zero point are those of exact arithmetic, rounded half to even; zero is exact",
)
@given(low=FINITE, high=FINITE)
def test_scale_and_zero_point_are_exact(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    entry = activation_scale(low, high)
    span = Fraction(max(high, 0.0)) - Fraction(min(low, 0.0))
    wanted = span / 255
    if entry == ActivationScale(1.0, 0):
        assert wanted < Fraction(TINY) * (1 + ULP) or abs(wanted - 1) <= ULP
        return
    scale = Fraction(entry.scale)
    assert abs(scale - wanted) <= wanted * (ULP + ROUNDING)
    position = -Fraction(min(low, 0.0)) / scale
    assert abs(entry.zero_point - min(position, 255)) <= HALF + 255 * ROUNDING
    if abs(position - half_even(position)) < HALF - 255 * ROUNDING:
        assert entry.zero_point == min(half_even(position), 255)
    least, most = (Fraction(end) for end in entry.bounds)
    assert (most - least, least) == (255 * scale, -entry.zero_point * scale)


@covers(
    "quantize.scales.ActivationScale.rounded",
    "quantize.scales.ActivationScale.integers",
    "quantize.scales.ActivationScale.dtype",
    does="quantizing and back is off by half a step at most, ties go to even integers, the ends saturate",
)
@given(
    scale=SCALES,
    zero_point=st.integers(0, 255),
    steps=st.lists(st.fractions(-300, 300, max_denominator=64), min_size=1, max_size=8),
)
def test_rounding_is_that_of_exact_arithmetic(scale: float, zero_point: int, steps: list[Fraction]) -> None:
    for entry in (ActivationScale(scale, zero_point), ActivationScale(scale, 0, signed=True)):
        # Steps are multiples of 1/64: the products are float64 numbers, exactly.
        values = np.array([float(step * Fraction(scale)) for step in map(sixty_fourths, steps)])
        assert [Fraction(v) / Fraction(scale) for v in values] == [sixty_fourths(s) for s in steps]
        least, most = np.iinfo(entry.dtype).min, np.iinfo(entry.dtype).max
        for step, found in zip(map(sixty_fourths, steps), entry.rounded(values), strict=True):
            # The integer is rounded first, and then moved by the zero point.
            integer = min(max(half_even(step) + entry.zero_point, least), most)
            assert Fraction(float(found)) == (integer - entry.zero_point) * Fraction(scale)
            if least <= step + entry.zero_point <= most:
                assert abs(Fraction(float(found)) - step * Fraction(scale)) <= Fraction(scale) / 2


def sixty_fourths(step: Fraction) -> Fraction:
    return Fraction(round(step * 64), 64)


@covers(
    "quantize.scales.ActivationScale.within",
    does="a Relu or Clip narrows a scale, never widens it, and a second time changes nothing",
)
@given(
    low=within(1e30),
    high=within(1e30),
    clip_low=st.one_of(st.just(-np.inf), within(1e6)),
    clip_high=st.one_of(st.just(np.inf), within(1e6)),
)
def test_clips_narrow(low: float, high: float, clip_low: float, clip_high: float) -> None:
    entry = activation_scale(min(low, high), max(low, high))
    clip_low, clip_high = min(clip_low, 0.0), max(clip_high, 0.0)
    found = entry.within(clip_low, clip_high)
    assert found.within(clip_low, clip_high) == found
    if found != entry and found != ActivationScale(1.0, 0):
        step = Fraction(found.scale)
        least, most = (Fraction(end) for end in found.bounds)
        assert np.isinf(clip_low) or least >= Fraction(clip_low) - step * (HALF + Fraction(1, 1 << 15))
        assert np.isinf(clip_high) or most <= Fraction(clip_high) + step * (HALF + Fraction(1, 1 << 15))
        assert step <= Fraction(entry.scale) * (1 + 2 * ULP)


@covers(
    "quantize.scales.scale_maker", does="scales have the sign and the least range that the deployment takes"
)
@given(low=within(1e30), high=within(1e30))
def test_makers_keep_what_a_target_demands(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    least, most = scale_maker(QNN)(low, high).bounds
    assert most - least >= QNN.least_range * (1 - 1e-6)
    signed = scale_maker(TENSORRT)(low, high)
    assert (signed.signed, signed.zero_point) == (True, 0)
    assert scale_maker(PORTABLE)(low, high) == activation_scale(low, high)


@covers(
    "quantize.weights.quantize_weights",
    "quantize.weights.weight_scales",
    "quantize.weights.rounded_weights",
    "quantize.weights.RoundedWeights.integers",
    does="integers stay within the limit and are off by half a step at most; a channel of zeros has a scale",
)
@given(
    weights=arrays(3, 4),
    zeroed=st.integers(0, 3),
    limit=st.sampled_from([64, 127]),
    axis=st.sampled_from([None, 0, 1]),
)
def test_weights_are_off_by_half_a_step(weights: Any, zeroed: int, limit: int, axis: int | None) -> None:
    weights[:zeroed] = 0.0
    integers, scale = quantize_weights(weights, limit, axis)
    np.testing.assert_array_equal(weight_scales(weights, limit, axis), scale)
    np.testing.assert_array_equal(rounded_weights(weights, scale, limit, axis), integers)
    known = RoundedWeights()
    for factor in (1, 2, 2, 1):  # remembered, and forgotten where the scale is another one
        wanted = rounded_weights(weights, scale * np.float32(factor), limit, axis)
        found = known.integers("conv", weights, scale * np.float32(factor), limit, axis)
        np.testing.assert_array_equal(found, wanted)
    assert np.abs(integers.astype(int)).max() <= limit
    assert np.all(np.isfinite(scale)) and np.all(scale >= TINY)
    spread = np.broadcast_to(scale.reshape([-1 if i == axis else 1 for i in range(2)]), weights.shape)
    for w, q, s in zip(exact(weights), integers.reshape(-1).tolist(), exact(spread), strict=True):
        # A scale that is rounded down saturates the largest weight by its own rounding; a channel whose
        # scale float32 has no normal number for counts as zeros.
        assert abs(q * s - w) <= s * (HALF + limit * (ULP + ROUNDING)) or (
            s == 1 and abs(w) <= limit * TINY * 2
        )


@covers(
    "quantize.weights.least_scales",
    "quantize.weights.round_bias",
    does="every bias fits half of int32 with a scale that float32 holds, and is off by half a step at most",
)
@given(bias=arrays(4), data_scale=SCALES, scale=SCALES)
def test_biases_fit_int32(bias: Any, data_scale: float, scale: float) -> None:
    least = least_scales(bias, data_scale, 4)
    fitting = np.maximum(np.float32(scale), least.astype(np.float32))
    assert np.all(np.isfinite(fitting))
    bias_scale = np.float32(data_scale) * fitting
    if not np.all(np.isfinite(bias_scale)):
        # Beyond float32 only where the products of the operator itself are: there is no such network.
        assert float(data_scale) * float(fitting.max()) > LARGEST / 2
        return
    assert np.all(bias_scale > 0)
    rounded = round_bias(bias, bias_scale)
    assert rounded.dtype == np.int32 and np.all(np.abs(rounded.astype(np.int64)) <= 1 << 30)
    for b, q, s, one in zip(exact(bias), rounded.tolist(), exact(bias_scale), least, strict=True):
        saturated = one >= LARGEST / 2 / max(data_scale, 1.0) * (1 - 1e-6)
        # Relative slack: the scale that just fits is rounded to float32.
        assert saturated or abs(q * s - b) <= s * HALF + abs(b) * 2 * ULP


@covers(
    "quantize.weights.float_parameters",
    "quantize.weights.quantize_parameters",
    does="Gemm's factors end up in the integers, whose range and scales hold",
)
@given(
    weights=arrays(3, 4, elements=within(1e6)),
    bias=arrays(4, elements=within(1e6)),
    alpha=within(100.0),
    beta=within(100.0),
    data_scale=st.floats(float(np.float32(1e-6)), float(np.float32(1e6)), width=32),
    per_channel=st.booleans(),
)
def test_parameters_of_a_gemm(
    *, weights: Any, bias: Any, alpha: float, beta: float, data_scale: float, per_channel: bool
) -> None:
    net = Net()
    net.node("Gemm", "x", net.constant(weights), net.constant(bias), output="scores", alpha=alpha, beta=beta)
    index = GraphIndex(onnx.helper.make_graph(net.nodes, "g", [], [], net.weights))
    w, b = float_parameters(net.nodes[0], index)
    np.testing.assert_array_equal(w, weights * np.float32(alpha))
    assert b is not None
    np.testing.assert_array_equal(b, bias * np.float32(beta))
    found = quantize_parameters(net.nodes[0], index, data_scale=data_scale, limit=64, per_channel=per_channel)
    assert found.bias is not None and np.abs(found.weights.astype(int)).max() <= 64
    assert np.abs(found.bias.astype(np.int64)).max() <= 1 << 30
    np.testing.assert_array_equal(found.bias_scale, np.float32(data_scale) * found.scale)
    error = np.abs(found.weights * found.scale.astype(np.float64) - w)
    assert np.all((error <= found.scale * (0.5 + 64 * 2.0**-23)) | (np.abs(w) <= 64 * TINY * 2))


@covers(
    "quantize.portability.pairs_are_bounded",
    does="a pair passes if and only if no two uint8 activations can make its sum leave int16",
)
@given(pairs=st.lists(st.tuples(st.integers(-128, 127), st.integers(-128, 127)), min_size=1, max_size=6))
def test_pairs_fit_int16(pairs: list[tuple[int, int]]) -> None:
    fits = all(-32768 <= x * a + y * b <= 32767 for a, b in pairs for x in (0, 255) for y in (0, 255))
    assert pairs_are_bounded(np.array(pairs).reshape(1, -1)) is fits


@pytest.mark.robustness(
    "Numbers",
    "A tensor is zero everywhere, or so small that float32 has no normal scale for it",
    "it gets scale 1 and zero point 0, and stays zero",
)
@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-45, 2e-38, TINY])
def test_zero_ranges(value: float) -> None:
    entry = activation_scale(value, value)
    assert entry.scale == 1.0 and entry.rounded(np.array([0.0]))[0] == 0.0
