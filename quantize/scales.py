"""What a scale and a zero point are, and how a range of real numbers becomes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from quantize.target import Target

UINT8_LEVELS = 255
# Symmetric int8 uses [-127, 127]: -128 has no positive counterpart.
_INT8_LIMIT = 127

# CPUs with and without AVX-512 sum floats in different orders, so that what they measure differs by some 1e-7
# (measured) and hardly ever by the time it is rounded to this. Costs at most 1/1024 of a range, a quarter of
# a step.
_SIGNIFICANT_BITS = 10


@dataclass(frozen=True)
class ActivationScale:
    """Quantization of one activation tensor to 8 bits: `real = (q - zero_point) · scale`.

    Attributes:
        scale: the step, above zero.
        zero_point: the integer that stands for 0.0.
        signed: int8, q in [-128, 127]; otherwise uint8, q in [0, 255].
    """

    scale: float
    zero_point: int
    signed: bool = False

    @property
    def dtype(self) -> type[np.int8] | type[np.uint8]:
        """The type of the integers, and of the zero point in a model."""
        return np.int8 if self.signed else np.uint8

    @property
    def integers(self) -> tuple[int, int]:
        """The smallest and the largest integer, to which `QuantizeLinear` saturates."""
        return (-128, 127) if self.signed else (0, UINT8_LEVELS)

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest real number that the 256 integers stand for."""
        least, most = self.integers
        return (least - self.zero_point) * self.scale, (most - self.zero_point) * self.scale

    def rounded(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The real numbers that quantized `values`, of any shape, stand for."""
        steps = np.clip(np.rint(values / self.scale) + self.zero_point, *self.integers)
        result: np.ndarray[Any, np.dtype[np.float64]] = (steps - self.zero_point) * self.scale
        return result

    def within(self, low: float, high: float) -> ActivationScale:
        """This scale, or a finer one where it reaches beyond [low, high] by more than a rounding error.

        Saturation stands for a Relu or Clip only if no integer lies outside of what that lets through. Signed
        scales, which are symmetric, cannot do that: for them the Relu or Clip stays, and so does the scale.

        Args:
            low: lower bound, at most zero; may be infinite.
            high: upper bound, at least zero; may be infinite.
        """
        if self.signed:
            return self
        least, most = self.bounds
        if least >= low - self.scale / 2 and most <= high + self.scale / 2:
            return self
        return activation_scale(max(least, low), min(most, high))


def activation_scale(
    low: float, high: float, *, signed: bool = False, least_range: float = 0.0
) -> ActivationScale:
    """The scale and zero point that span [low, high], widened to include zero.

    uint8: `scale = (high - low) / 255`, `zero_point = round(-low / scale)`, as ONNX `QuantizeLinear` and
    gemmlowp define them. int8: `scale = max(-low, high) / 127`, zero point 0. Zero is exact, because padding
    and ReLU make so many of them. A tensor that is zero everywhere gets scale 1.

    Args:
        low: the smallest number that has to be represented.
        high: the largest.
        signed: symmetric int8 instead of asymmetric uint8.
        least_range: a smaller range is widened upwards to so much, where a deployment demands it.
    """
    low, high = min(low, 0.0), max(high, 0.0, low + least_range)
    span = max(-low, high) / _INT8_LIMIT if signed else (high - low) / UINT8_LEVELS
    scale = np.float32(span)
    if not scale >= np.finfo(np.float32).tiny:
        return ActivationScale(1.0, 0, signed)
    if signed:
        return ActivationScale(float(scale), 0, signed)
    return ActivationScale(float(scale), int(np.clip(np.rint(-low / float(scale)), 0, UINT8_LEVELS)))


def scale_maker(target: Target) -> Callable[[float, float], ActivationScale]:
    """What makes the activation scales that a deployment takes: (low, high) -> scale."""
    return partial(activation_scale, signed=target.signed_activations, least_range=target.least_range)


def steady(value: float) -> float:
    """The nearest number with few significant bits, for what was measured in floats and decides integers."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, _SIGNIFICANT_BITS)), exponent - _SIGNIFICANT_BITS)
