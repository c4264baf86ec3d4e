"""The two combined ImageNet transforms of 1.x, as its ONNX Runtime branch computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.errors import InputError
from calibration.transforms.base import (
    MIN_STD,
    Array,
    Pixels,
    Spec,
    Transform,
    as_array,
    check_area,
    check_choice,
    check_count,
    check_number,
    check_numbers,
    check_resized,
    normalized,
    size_of,
)
from calibration.transforms.geometry import center_cropped, opencv_resized


@dataclass(frozen=True)
class ResizeCropImagenet(Transform):
    """Resize, centre crop, divide by 255, `(x - mean) / std`, and transpose to CxHxW.

    The factor is `resize_side` over the shorter side, and the sizes are truncated. As in 1.x, width and
    height then change places on their way to OpenCV: a landscape picture of 500x375 becomes 256 wide and 341
    high. That distorts, but it is what published figures with this transform were measured with;
    ResizeShortest with CenterCrop does it properly.

    Attributes:
        height: of the crop, pixels.
        width: of the crop, pixels.
        random_crop: only false: calibration must be repeatable.
        resize_side: what the shorter side becomes, pixels.
        mean_value: one number, or one per channel, on the scale of [0, 1].
        std_value: one number, or one per channel.
        resize_method: only bilinear. 1.x accepts, and ignores, anything here and in the next two.
        data_format: only channels_last.
        subpixels: only RGB.
    """

    height: int
    width: int
    random_crop: bool = False
    resize_side: int = 256
    mean_value: float | Sequence[float] = (0.0, 0.0, 0.0)
    std_value: float | Sequence[float] = (0.229, 0.224, 0.225)
    resize_method: str = "bilinear"
    data_format: str = "channels_last"
    subpixels: str = "RGB"

    def __post_init__(self) -> None:
        name = "ResizeCropImagenet"
        for field in ("height", "width", "resize_side"):
            check_count(f"{name}: {field}", getattr(self, field))
        check_area(name, self.height, self.width)
        if max(self.height, self.width) > self.resize_side:
            raise InputError(
                f"transform {name}: cannot crop {self.height}x{self.width} "
                f"after resize_side {self.resize_side}: make resize_side larger"
            )
        if self.random_crop:
            raise InputError(
                f"transform {name}: random_crop: calibration must be repeatable: set it to false"
            )
        check_choice(f"{name}: resize_method", self.resize_method, ("bilinear",))
        check_choice(f"{name}: data_format", self.data_format, ("channels_last",))
        check_choice(f"{name}: subpixels", self.subpixels, ("RGB",))
        mean = _per_channel(f"{name}: mean_value", self.mean_value)
        std = _per_channel(f"{name}: std_value", self.std_value)
        if min(std) < MIN_STD:
            raise InputError(
                f"transform {name}: std_value: {list(std)} is too small: give at least {MIN_STD}"
            )
        object.__setattr__(self, "mean_value", mean)
        object.__setattr__(self, "std_value", std)

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels [H,W,3] → float32 [3,height,width]."""
        pixels = as_array(image)
        scale = self.resize_side / min(pixels.shape[0], pixels.shape[1])
        # Swapped, see above.
        width, height = int(pixels.shape[0] * scale), int(pixels.shape[1] * scale)
        check_resized("ResizeCropImagenet", size_of(pixels), (height, width))
        resized = opencv_resized(pixels, width, height, "bilinear")
        cropped = as_array(center_cropped(resized, self.height, self.width, "ResizeCropImagenet"))
        unit = np.divide(cropped, np.float32(255), dtype=np.float32, casting="unsafe")
        mean = check_numbers("ResizeCropImagenet: mean_value", self.mean_value)
        std = check_numbers("ResizeCropImagenet: std_value", self.std_value)
        return normalized(unit, mean, std).transpose(2, 0, 1), label

    def trace(self, spec: Spec) -> Spec:
        """Needs the 8-bit pixels of the image, HxWxC: it divides by 255 itself."""
        _require_raw_pixels(spec, "ResizeCropImagenet")
        return Spec((3, self.height, self.width), "CHW", np.dtype(np.float32))


@dataclass(frozen=True)
class BilinearImagenet(Transform):
    """Crops the central fraction of both sides, resizes, and maps to `((x/255 - 0.5)·2 - mean)·scale`, HxWxC.

    Attributes:
        height: of the result, pixels.
        width: of the result, pixels.
        central_fraction: of each side that is kept, in (0, 1].
        mean_value: one number, or one per channel, on the scale of [-1, 1].
        scale: factor at the end.
    """

    height: int
    width: int
    central_fraction: float = 0.875
    mean_value: float | Sequence[float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        name = "BilinearImagenet"
        check_count(f"{name}: height", self.height)
        check_count(f"{name}: width", self.width)
        check_area(name, self.height, self.width)
        if not 0 < check_number(f"{name}: central_fraction", self.central_fraction) <= 1:
            raise InputError(f"transform {name}: central_fraction: {self.central_fraction} is not in (0, 1]")
        if check_number(f"{name}: scale", self.scale) == 0:
            raise InputError(f"transform {name}: scale: 0 would make every image black")
        object.__setattr__(self, "mean_value", _per_channel(f"{name}: mean_value", self.mean_value))

    def __call__(self, image: Pixels, label: int) -> tuple[Pixels, int]:
        """Pixels [H,W,3] → float32 [height,width,3]."""
        centre = self._centre(as_array(image))
        unit = np.divide(centre, np.float32(255), dtype=np.float32, casting="unsafe")
        resized = opencv_resized(unit, self.width, self.height, "bilinear")
        signed = np.subtract(resized, np.float32(0.5))
        np.multiply(signed, np.float32(2), out=signed)
        mean = check_numbers("BilinearImagenet: mean_value", self.mean_value)
        np.subtract(signed, np.asarray(mean, np.float32), out=signed)
        return np.multiply(signed, np.float32(self.scale), out=signed), label

    def _centre(self, pixels: Array) -> Array:
        """What is left after cutting `int((side - side·fraction)/2)` pixels off each edge."""
        top, left = (int((side - side * self.central_fraction) / 2) for side in map(float, pixels.shape[:2]))
        return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]

    def trace(self, spec: Spec) -> Spec:
        """Needs the 8-bit pixels of the image, HxWxC: it divides by 255 itself."""
        _require_raw_pixels(spec, "BilinearImagenet")
        return replace(spec.resized(self.height, self.width), dtype=np.dtype(np.float32))


def _per_channel(where: str, value: object) -> tuple[float, ...]:
    numbers = check_numbers(where, value)
    return numbers * 3 if len(numbers) == 1 else numbers


def _require_raw_pixels(spec: Spec, name: str) -> None:
    spec.require_hwc(name)
    if spec.dtype != np.uint8:
        raise InputError(
            f"transform {name}: divides by 255 itself: take out Rescale, Normalize or Cast before it"
        )
