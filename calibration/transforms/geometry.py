"""Transforms that move pixels: Resize, ResizeShortest, CenterCrop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from calibration.errors import InputError
from calibration.transforms.base import (
    Array,
    Pixels,
    Spec,
    Transform,
    as_array,
    check_choice,
    check_count,
    check_pair,
    check_resized,
    size_of,
)

_INTERPOLATIONS = ("bilinear", "nearest", "bicubic")

# OpenCV's values of INTER_LINEAR, INTER_NEAREST and INTER_CUBIC, here to keep its import out of the module.
_OPENCV_FLAG = {"bilinear": 1, "nearest": 0, "bicubic": 2}
# What cv2.resize takes. It refuses the other integers, half precision and bool.
_OPENCV_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")

_PILLOW_FILTER = {
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
}


def opencv_resized(pixels: Array, width: int, height: int, interpolation: str) -> Array:
    """cv2.resize of an array [H,W,C], in its own dtype, without antialiasing."""
    import cv2

    return cv2.resize(
        np.ascontiguousarray(pixels), (width, height), interpolation=_OPENCV_FLAG[interpolation]
    )


def center_cropped(image: Pixels, height: int, width: int, name: str) -> Pixels:
    """The middle pixels, from row `floor((H - height)/2)` and column `floor((W - width)/2)` on."""
    have_height, have_width = size_of(image)
    if have_height < height or have_width < width:
        raise _crop_error(name, (height, width), (have_height, have_width))
    top, left = (have_height - height) // 2, (have_width - width) // 2
    if isinstance(image, Image.Image):
        return image.crop((left, top, left + width, top + height))
    return image[top : top + height, left : left + width]


def _crop_error(name: str, wanted: tuple[int, int], have: tuple[int, int]) -> InputError:
    return InputError(
        f"transform {name}: cannot crop {wanted[0]}x{wanted[1]} out of {have[0]}x{have[1]} pixels: "
        "make the size before it larger, or the crop smaller"
    )


@dataclass(frozen=True)
class Resize(Transform):
    """Squashes the image to a fixed size, as INC 1.x does: OpenCV, no antialiasing, whatever dtype comes.

    Attributes:
        size: one size for both sides, or [width, height]. In this order, because 1.x hands the list to OpenCV
            as it is.
        interpolation: bilinear, nearest or bicubic.
    """

    size: int | tuple[int, int]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_pair("Resize: size", self.size))
        check_choice("Resize: interpolation", self.interpolation, _INTERPOLATIONS)

    @property
    def _width_height(self) -> tuple[int, int]:
        return check_pair("Resize: size", self.size)

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels [H,W,3] → [height,width,3] of the same dtype."""
        width, height = self._width_height
        return opencv_resized(as_array(image), width, height, self.interpolation), label

    def trace(self, spec: Spec) -> Spec:
        """Needs HxWxC in a dtype that OpenCV resizes."""
        spec.require_hwc("Resize")
        if spec.dtype.name not in _OPENCV_DTYPES:
            raise InputError(f"transform Resize: cannot resize {spec.dtype.name} pixels: put it before Cast")
        width, height = self._width_height
        return spec.resized(height, width)


@dataclass(frozen=True)
class ResizeShortest(Transform):
    """Resizes the shorter side to `size` and keeps the aspect ratio, with Pillow's antialiasing.

    This is the Model Zoo's own preprocessing (and torchvision's `Resize(256)` on a Pillow image): the longer
    side becomes `int(size · long / short)`. It is not part of the 1.x schema.

    Attributes:
        size: of the shorter side, pixels.
        interpolation: bilinear, nearest or bicubic.
    """

    size: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_count("ResizeShortest: size", self.size)
        check_choice("ResizeShortest: interpolation", self.interpolation, _INTERPOLATIONS)

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """A Pillow image or uint8 [H,W,3] → a Pillow image."""
        pillow = image if isinstance(image, Image.Image) else Image.fromarray(image)
        long_side = int(self.size * max(pillow.size) / min(pillow.size))
        upright = pillow.width <= pillow.height
        size = (self.size, long_side) if upright else (long_side, self.size)
        check_resized("ResizeShortest", (pillow.height, pillow.width), size[::-1])
        return pillow.resize(size, _PILLOW_FILTER[self.interpolation]), label

    def trace(self, spec: Spec) -> Spec:
        """Needs 8-bit pixels, HxWxC: Pillow knows no other colour images."""
        spec.require_hwc("ResizeShortest")
        if spec.dtype != np.uint8:
            raise InputError(
                f"transform ResizeShortest: needs 8-bit pixels, gets {spec.dtype.name}: "
                "put it before Rescale, Normalize and Cast"
            )
        return spec.resized(None, None)


@dataclass(frozen=True)
class CenterCrop(Transform):
    """Cuts out the middle; offsets are `floor((H - height)/2)` and `floor((W - width)/2)`, as in 1.x.

    An image that is smaller than the crop is an error. (1.x lets one missing pixel pass and returns an empty
    image.)

    Attributes:
        size: one size for both sides, or [height, width].
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_pair("CenterCrop: size", self.size))

    @property
    def _height_width(self) -> tuple[int, int]:
        return check_pair("CenterCrop: size", self.size)

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels [H,W,3] → [height,width,3]."""
        return center_cropped(image, *self._height_width, "CenterCrop"), label

    def trace(self, spec: Spec) -> Spec:
        """Needs HxWxC, and no less than the crop where that is known."""
        spec.require_hwc("CenterCrop")
        height, width = self._height_width
        have_height, have_width = spec.shape[:2]
        if (
            have_height is not None
            and have_width is not None
            and (have_height < height or have_width < width)
        ):
            raise _crop_error("CenterCrop", (height, width), (have_height, have_width))
        return spec.resized(height, width)
