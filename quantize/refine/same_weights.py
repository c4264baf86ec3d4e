"""Whether a quantized operator has the weights of an fp32 one, whatever else was done to it.

Equalization multiplies output channels of an operator, and input channels of the one behind it, by positive
factors (Nagel et al. 2019, arXiv 1906.04721), as does the correction of the scores' size; a stem may have got
input channels of zeros. So `V ≈ diag(r) · W · diag(k)` is asked for, with some positive r and k, instead of
`V ≈ W`: the rank of `V / W`, entry by entry, is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.refine.geometry import Geometry

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

# Rounding to 7 bits moves weights by 1/256 of their largest on average, 1 % of their size; ours with factors
# differ by 1.7 % at most after the fit (MobileNetV2), and those of another operator by 88 to 100 %.
_DIFFERENT_FRACTION = 0.1

# Products of a uint8 and such a pair fill int16 (128 · 255), or would with the next larger weight.
_FULL_PAIR = 127

# Each round of the fit makes the error smaller; on MobileNetV2 the second is as good as the twelfth. More are
# for factors that lie far from one.
_ROUNDS = 8

# So many weights more than factors must there be. With fewer, other weights fit as well by chance: one
# residual is below a tenth of its size in 8 % of the cases, four at once in less than 0.01 %.
_SPARE_WEIGHTS = 4


class Likeness(Enum):
    """Weights of the same operator: as they were, or with factors."""

    EQUAL = "equal"
    SCALED = "scaled"


@dataclass(frozen=True)
class GivenWeights:
    """Weights of a model that somebody made.

    Attributes:
        values: as the operator computes with them, float.
        integers: what they are stored as, without their zero point; None for floats.
        axis: of the channels that have scales of their own; None for one scale in all.
    """

    values: Array
    integers: Array | None = None
    axis: int | None = None

    def known(self, geometry: Geometry) -> npt.NDArray[np.bool_]:
        """Which weights tell what they were before they were rounded, bool of the same shape.

        Not those at the largest integer of their scale, where others may have saturated, and not those that
        their neighbours held back (DESIGN, "Kernels").
        """
        if self.integers is None:
            return np.ones(self.values.shape, dtype=np.bool_)
        integers = self.integers.astype(np.float32)
        sizes = np.abs(integers)
        axes = None if self.axis is None else tuple(a for a in range(sizes.ndim) if a != self.axis)
        # With asymmetric limits, -128 and 127 both saturate.
        known: npt.NDArray[np.bool_] = sizes < sizes.max(axis=axes, keepdims=True, initial=0.0) - 1.0
        return known if geometry.depthwise else known & ~_held_back(integers, geometry)


def _held_back(integers: Array, geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Which integers are in a pair whose products fill int16."""
    own = replace(geometry, weight_shape=integers.shape)  # with its padding, which is in the pairs
    packed = own.pack(integers)
    padded = np.pad(packed, ((0, 0), (0, 0), (0, packed.shape[2] % 2)))
    pairs = padded.reshape(*padded.shape[:2], -1, 2)
    full = np.maximum(np.maximum(pairs, 0).sum(axis=3), np.maximum(-pairs, 0).sum(axis=3)) >= _FULL_PAIR
    return own.unpack(np.repeat(full, 2, axis=2)[:, :, : packed.shape[2]])


def likeness_of(given: GivenWeights, wanted: Array, geometry: Geometry) -> Likeness | None:
    """How the weights are those of an operator; None where they are another's.

    Args:
        given: of the quantized operator.
        wanted: of the fp32 operator, in the shape that it has them in.
        geometry: of the fp32 operator.
    """
    values = _without_padding(given.values, wanted.shape, geometry)
    if values is None or not np.isfinite(values).all():
        return None
    with np.errstate(all="ignore"):  # numbers of a file that nobody vouches for may be huge
        if _close(values, wanted):
            return Likeness.EQUAL
        known = given.known(geometry)
        if known.shape != wanted.shape:
            known = known[:, : wanted.shape[1]]
        return Likeness.SCALED if _fits(values, wanted, known, geometry) else None


def _close(values: Array, wanted: Array) -> bool:
    size = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(values - wanted)) <= _DIFFERENT_FRACTION * size


def _without_padding(values: Array, shape: tuple[int, ...], geometry: Geometry) -> Array | None:
    """Weights of the wanted shape; None where more than input channels of zeros has to go for that."""
    if values.shape == shape:
        return values
    if geometry.op_type != "Conv" or geometry.groups > 1 or values.ndim != len(shape):
        return None
    kept = values[:, : shape[1]]
    return None if kept.shape != shape or np.any(values[:, shape[1] :]) else kept


def _fits(values: Array, wanted: Array, known: Array, geometry: Geometry) -> bool:
    """Whether there are positive factors with which the known weights are the wanted ones."""
    sums = _Sums.of(values, wanted, known, geometry)
    if sums is None:
        return False
    columns = np.ones((sums.products.shape[0], sums.products.shape[2]))
    for _ in range(_ROUNDS):
        rows = sums.rows(columns)
        if sums.share_left(rows, columns) <= _DIFFERENT_FRACTION**2:
            return True
        columns = sums.columns(rows)
    return False


@dataclass(frozen=True)
class _Sums:
    """All that the fit needs to know; the taps of a kernel share their factors.

    Attributes:
        products, squares: of given and wanted weights, and of wanted ones, over the taps: [G, M, C].
        powers: of the given weights, by row: [G, M].
        freedom: weights beyond what factors explain, a fraction of all that tell something.
    """

    products: Doubles
    squares: Doubles
    powers: Doubles
    freedom: float

    @staticmethod
    def of(values: Array, wanted: Array, known: Array, geometry: Geometry) -> _Sums | None:
        """None where too few weights tell something."""
        taps = geometry.kernel[0] * geometry.kernel[1]
        shape = (geometry.groups, -1, taps, geometry.inputs // geometry.groups)
        v, w = (
            geometry.pack(np.where(known, array, 0)).reshape(shape).astype(np.float64)
            for array in (values, wanted)
        )
        squares, powers = (w * w).sum(axis=2), (v * v).sum(axis=(2, 3))
        there = v != 0
        rows, entries = int(np.count_nonzero(powers)), int(there.sum())
        spare = entries - rows - int(there.any(axis=(1, 2)).sum())
        # Rows that are small beside others may have been rounded to nothing, but not most of them.
        if spare < _SPARE_WEIGHTS or 2 * rows < np.count_nonzero(squares.sum(axis=2)):
            return None
        return _Sums((v * w).sum(axis=2), squares, powers, spare / entries)

    def rows(self, columns: Doubles) -> Doubles:
        """The best factors of output channels [G, M], given those of input channels [G, C]."""
        above, below = self._against(columns)
        return _positive_ratio(above, below)

    def columns(self, rows: Doubles) -> Doubles:
        """The best factors of input channels [G, C]; every row counts the same, whatever its own factor."""
        weighted = rows * _positive_ratio(np.ones_like(self.powers), self.powers)
        above = (weighted[:, None] @ self.products)[:, 0]
        return _positive_ratio(above, ((weighted * rows)[:, None] @ self.squares)[:, 0])

    def share_left(self, rows: Doubles, columns: Doubles) -> float:
        """The mean share of a row's power that the factors leave, as if they had not been fitted."""
        above, below = self._against(columns)
        left = self.powers - 2 * rows * above + rows**2 * below
        share = _positive_ratio(left, self.powers).sum() / np.count_nonzero(self.powers)
        return float(share) / self.freedom

    def _against(self, columns: Doubles) -> tuple[Doubles, Doubles]:
        """`<v, w>` and `<w, w>` of each row, its input channels multiplied: [G, M]."""
        return (self.products @ columns[..., None])[..., 0], (self.squares @ columns[..., None] ** 2)[..., 0]


def _positive_ratio(above: Doubles, below: Doubles) -> Doubles:
    """Least squares of one factor, `<v, w> / <w, w>`, where it is positive; 0 where nothing is known."""
    return np.maximum(np.divide(above, below, out=np.zeros_like(above), where=below > 0), 0.0)
