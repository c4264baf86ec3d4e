"""Transforms that compute on values, axes and labels: Rescale, Normalize, Transpose, Cast, LabelShift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.errors import InputError, quoted
from calibration.transforms.base import (
    MIN_STD,
    Pixels,
    Spec,
    Transform,
    as_array,
    check_choice,
    check_numbers,
    normalized,
)

# The numeric types among those that 1.x casts to.
_DTYPES = (
    "float32",
    "float64",
    "float16",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
)


@dataclass(frozen=True)
class Rescale(Transform):
    """Divides by 255, in float32: 8-bit pixels come to lie in [0, 1]."""

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels of any shape → float32 of the same shape."""
        return np.divide(as_array(image), np.float32(255), dtype=np.float32, casting="unsafe"), label

    def trace(self, spec: Spec) -> Spec:
        """Works anywhere."""
        return replace(spec, dtype=np.dtype(np.float32))


@dataclass(frozen=True)
class Normalize(Transform):
    """`(x - mean) / std`, per channel, before or after Transpose.

    Computed in float32. 1.x computes in float64; the difference is below 3e-7 of the largest intermediate
    value, and no model sees it after its own float32 input.

    Attributes:
        mean: one number, or one per channel.
        std: one number, or one per channel, each at least 1e-6.
    """

    mean: float | Sequence[float] = (0.0,)
    std: float | Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        mean = check_numbers("Normalize: mean", self.mean)
        std = check_numbers("Normalize: std", self.std)
        for value in std:
            if value < MIN_STD:
                raise InputError(f"transform Normalize: std: {value!r} is too small: give at least {MIN_STD}")
        channel_count = max(len(mean), len(std))
        object.__setattr__(self, "mean", mean if len(mean) == channel_count else mean * channel_count)
        object.__setattr__(self, "std", std if len(std) == channel_count else std * channel_count)

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels [H,W,3] or [3,H,W] → float32 of the same shape."""
        mean, std = check_numbers("Normalize: mean", self.mean), check_numbers("Normalize: std", self.std)
        return normalized(as_array(image), mean, std), label

    def trace(self, spec: Spec) -> Spec:
        """Needs the channels first or last."""
        if spec.axes[1] == "C":
            raise InputError("transform Normalize: the channels are in the middle: put it before Transpose")
        return replace(spec, dtype=np.dtype(np.float32))


@dataclass(frozen=True)
class Transpose(Transform):
    """Permutes the axes; [2, 0, 1] makes CxHxW of HxWxC.

    Attributes:
        perm: axis i of the result is axis `perm[i]` of the input.
    """

    perm: Sequence[int]

    def __post_init__(self) -> None:
        perm = self.perm
        integers = isinstance(perm, list | tuple) and all(isinstance(axis, int) for axis in perm)
        if not integers or sorted(perm) != [0, 1, 2]:
            raise InputError(
                f"transform Transpose: perm: {quoted(perm)} is not an order of 0, 1, 2: give e.g. [2, 0, 1]"
            )
        object.__setattr__(self, "perm", tuple(int(axis) for axis in perm))

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels of three axes → a view with the axes permuted."""
        return as_array(image).transpose(self.perm), label

    def trace(self, spec: Spec) -> Spec:
        """Works anywhere."""
        return replace(
            spec,
            shape=tuple(spec.shape[axis] for axis in self.perm),
            axes="".join(spec.axes[axis] for axis in self.perm),
        )


@dataclass(frozen=True)
class Cast(Transform):
    """Converts the pixels to another type, as numpy's `astype` does (towards zero, without saturation).

    Attributes:
        dtype: name of a numeric numpy type.
    """

    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choice("Cast: dtype", self.dtype, _DTYPES)

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels of any shape → `dtype`, of the same shape."""
        return as_array(image).astype(self.dtype, copy=False), label

    def trace(self, spec: Spec) -> Spec:
        """Works anywhere."""
        return replace(spec, dtype=np.dtype(self.dtype))


@dataclass(frozen=True)
class LabelShift(Transform):
    """Subtracts from the label: 1 where a list counts from 1, -1 for models with a background class 0.

    Attributes:
        label_shift: what is subtracted.
    """

    label_shift: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.label_shift, bool) or not isinstance(self.label_shift, int):
            raise InputError(
                f"transform LabelShift: label_shift: {quoted(self.label_shift)} is not an integer"
            )

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """The image as it is, and `label - label_shift`."""
        shifted = label - self.label_shift
        if shifted < 0:
            raise InputError(
                f"transform LabelShift: label {label} - {self.label_shift} is below 0: check label_shift"
            )
        return image, shifted

    def trace(self, spec: Spec) -> Spec:
        """Works anywhere."""
        return spec
