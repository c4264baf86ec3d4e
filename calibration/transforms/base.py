"""What every transform is, and the checks they share."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from calibration.errors import InputError, quoted

# An image stays a Pillow image as long as only Pillow touches it; the first step that computes makes an array
# of it.
Array: TypeAlias = npt.NDArray[Any]
Pixels: TypeAlias = Image.Image | Array

# No classifier takes more than 4096x4096 pixels; as float32 they are 200 MB an image.
MOST_PIXELS = 1 << 24

# A strip of 1 x 60,000 pixels, resized to a shorter side of 256, would take 16 GB. Real photographs stay
# below 1:20.
MOST_RESIZED_PIXELS = 1 << 26


# The smallest deviation that 1.x accepts.
MIN_STD = 1e-6

# The arithmetic is that of float32: a larger number would be infinite in it.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Spec:
    """What is known, before any image is seen, about the pixels between two steps.

    Attributes:
        shape: sizes in the order of `axes`; None where it depends on the image.
        axes: a permutation of "HWC".
        dtype: of the pixels.
    """

    shape: tuple[int | None, ...] = (None, None, 3)
    axes: str = "HWC"
    dtype: np.dtype[Any] = dataclasses.field(default_factory=lambda: np.dtype(np.uint8))

    def resized(self, height: int | None, width: int | None) -> Spec:
        """The same with another height and width; only where `axes` is "HWC"."""
        return dataclasses.replace(self, shape=(height, width, self.shape[2]))

    def require_hwc(self, name: str) -> None:
        """Raises InputError if the channels are not last: step `name` would take them for rows."""
        if self.axes != "HWC":
            raise InputError(
                f"transform {name}: comes after Transpose, but works on HxWxC: put it before Transpose"
            )


@dataclass(frozen=True)
class Transform(ABC):
    """One step of the preprocessing: pure, the same for every image, never writing into what it gets.

    Subclasses are frozen dataclasses whose fields are the parameters of the configuration's entry of the same
    name; they check them when made and raise InputError.
    """

    @abstractmethod
    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """The transformed image and label.

        Raises:
            InputError: this image cannot be transformed. The message does not name the image; the caller
                knows it.
        """

    @abstractmethod
    def trace(self, spec: Spec) -> Spec:
        """What comes out if `spec` goes in.

        Raises:
            InputError: the step cannot work there, with the place where it can.
        """

    def to_json(self) -> dict[str, Any]:
        """Name and all parameters, defaults included, as JSON values."""
        parameters = {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in dataclasses.fields(self)
        }
        return {"name": type(self).__name__, **parameters}


def as_array(image: Pixels) -> Array:
    """The pixels as an array, [H,W,3] uint8 if it was still a Pillow image; not to be written into."""
    return np.asarray(image) if isinstance(image, Image.Image) else image


def size_of(image: Pixels) -> tuple[int, int]:
    """Height and width of a Pillow image or of an array [H,W,C]."""
    return (image.height, image.width) if isinstance(image, Image.Image) else (image.shape[0], image.shape[1])


def check_count(where: str, value: object) -> int:
    """Returns `value` if it is an integer of 1 or more, else raises InputError naming `where`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"transform {where}: {quoted(value)} is not a size: give an integer of 1 or more")
    check_area(where, value, 1)
    return value


def check_area(where: str, height: int, width: int) -> None:
    """Raises InputError naming `where` if an image of this size could only have been asked for by mistake."""
    if height * width > MOST_PIXELS:
        raise InputError(
            f"transform {where}: {quoted(height)} x {quoted(width)} is too large: at most {MOST_PIXELS} "
            "pixels"
        )


def check_resized(name: str, have: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raises InputError if resizing an image (height, width) would take memory without measure."""
    if wanted[0] * wanted[1] > MOST_RESIZED_PIXELS:
        raise InputError(
            f"transform {name}: would make {wanted[1]}x{wanted[0]} pixels of {have[1]}x{have[0]}: "
            "the image is too elongated, take it off the list"
        )


def check_pair(where: str, value: object) -> tuple[int, int]:
    """Returns one size as two equal ones, and a list of one or two sizes as two."""
    sizes = [value] if isinstance(value, int) else value
    if not isinstance(sizes, list | tuple) or len(sizes) not in (1, 2):
        raise InputError(
            f"transform {where}: {quoted(value)} is not a size: give an integer or a list of two"
        )
    pair = check_count(where, sizes[0]), check_count(where, sizes[-1])
    check_area(where, *pair)
    return pair


def check_number(where: str, value: object) -> float:
    """Returns `value` as a float if float32 holds it, else raises InputError naming `where`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise InputError(f"transform {where}: {quoted(value)} is not a finite number")
    return float(value)


def check_numbers(where: str, value: object) -> tuple[float, ...]:
    """Returns one number, or a list of one or three (one per channel), as a tuple."""
    numbers: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    if len(numbers) not in (1, 3):
        raise InputError(f"transform {where}: has {len(numbers)} numbers: give one, or one per channel (3)")
    return tuple(check_number(where, number) for number in numbers)


def check_choice(where: str, value: object, choices: Sequence[str]) -> str:
    """Returns `value` if it is one of `choices`, else raises InputError that lists them."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"transform {where}: {quoted(value)} is not known: give one of {', '.join(choices)}")
    return value


def normalized(pixels: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """`(pixels - mean) / std` per channel, in float32.

    The channels are the last axis if its size fits, as in 1.x, else the first. The result has the shape of
    `pixels`, but each channel is contiguous in memory: that is four times faster than broadcasting over a
    last axis of length 3 (0.2 instead of 0.8 ms for 224x224), and a Transpose to CxHxW then costs nothing.
    """
    channel_axis = pixels.ndim - 1 if pixels.shape[-1] == len(mean) else 0
    planes = np.moveaxis(pixels, channel_axis, 0)
    if len(mean) == 1:
        mean, std = [*mean] * len(planes), [*std] * len(planes)
    if len(mean) != len(planes):
        raise InputError(
            f"transform Normalize: mean has {len(mean)} numbers, the image {len(planes)} channels"
        )
    out = np.empty(planes.shape, np.float32)
    for plane, result, plane_mean, plane_std in zip(planes, out, mean, std, strict=True):
        np.subtract(plane, np.float32(plane_mean), out=result, dtype=np.float32)
        np.divide(result, np.float32(plane_std), out=result)
    return np.moveaxis(out, 0, channel_axis)
