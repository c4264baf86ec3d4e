"""What a scale and a zero point are, and how a range of real numbers becomes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UINT8_LEVELS = 255


@dataclass(frozen=True)
class ActivationScale:
    """Quantization of one activation tensor to uint8: `real = (q - zero_point) · scale`."""

    scale: float
    zero_point: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest real number that the 256 integers stand for."""
        return -self.zero_point * self.scale, (UINT8_LEVELS - self.zero_point) * self.scale

    def within(self, low: float, high: float) -> ActivationScale:
        """This scale, or a finer one where it reaches beyond [low, high] by more than a rounding error.

        Saturation stands for a Relu or Clip only if no integer lies outside of what that lets through.

        Args:
            low: lower bound, at most zero; may be infinite.
            high: upper bound, at least zero; may be infinite.
        """
        least, most = self.bounds
        if least >= low - self.scale / 2 and most <= high + self.scale / 2:
            return self
        return activation_scale(max(least, low), min(most, high))


def activation_scale(low: float, high: float) -> ActivationScale:
    """The uint8 scale and zero point that span [low, high], widened to include zero.

    `scale = (high - low) / 255`, `zero_point = round(-low / scale)`, as ONNX `QuantizeLinear` and gemmlowp
    define them. Zero is exact, because padding and ReLU make so many of them. A tensor that is zero
    everywhere gets scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / UINT8_LEVELS)
    if not scale >= np.finfo(np.float32).tiny:
        return ActivationScale(1.0, 0)
    return ActivationScale(float(scale), int(np.clip(np.rint(-low / float(scale)), 0, UINT8_LEVELS)))
