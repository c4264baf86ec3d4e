"""The transforms of a configuration, composed in the order in which they are written."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from calibration.errors import InputError
from calibration.transforms.arithmetic import Cast, LabelShift, Normalize, Rescale, Transpose
from calibration.transforms.base import Array, Pixels, Spec, Transform, as_array
from calibration.transforms.geometry import CenterCrop, Resize, ResizeShortest
from calibration.transforms.imagenet import BilinearImagenet, ResizeCropImagenet

# Everything that a configuration may name: a class is known there by its own name.
KNOWN: tuple[type[Transform], ...] = (
    BilinearImagenet,
    Cast,
    CenterCrop,
    LabelShift,
    Normalize,
    Rescale,
    Resize,
    ResizeCropImagenet,
    ResizeShortest,
    Transpose,
)


@dataclass(frozen=True)
class Pipeline:
    """Image → array, label → label: `steps` one after the other.

    Making one checks that the steps fit together, so a wrong order is found before the first image is read.

    Attributes:
        steps: in the order of their application.

    Raises:
        InputError: a step cannot work where it stands; the message says where it can.
    """

    steps: tuple[Transform, ...]

    def __post_init__(self) -> None:
        self.output_spec()

    def __call__(self, image: Image.Image, label: int) -> tuple[Array, int]:
        """Runs all steps.

        Args:
            image: of mode RGB.
            label: class index.

        Returns:
            A contiguous array of three axes, of `output_spec().dtype`, and the label.

        Raises:
            InputError: this image cannot be transformed.
        """
        pixels: Pixels = image
        for step in self.steps:
            pixels, label = step(pixels, label)
        return np.ascontiguousarray(as_array(pixels)), label

    def output_spec(self) -> Spec:
        """Shape, axes and dtype of what comes out, as far as they do not depend on the image."""
        spec = Spec()
        for step in self.steps:
            spec = step.trace(spec)
        return spec

    def output_shape(self) -> tuple[int, int, int] | None:
        """Shape of the result, without the batch; None if it depends on the image."""
        first, second, third = self.output_spec().shape
        if first is None or second is None or third is None:
            return None
        return first, second, third

    def layout(self) -> Literal["NCHW", "NHWC"]:
        """Where the channels stand in a batch.

        Raises:
            InputError: neither first nor last, in an order that no image model uses.
        """
        match self.output_spec().axes:
            case "CHW":
                return "NCHW"
            case "HWC":
                return "NHWC"
            case other:
                raise InputError(
                    f"transform Transpose: axes come out as {other}: use perm [2, 0, 1] for CxHxW"
                )

    def to_json(self) -> list[dict[str, Any]]:
        """All steps with all parameters, as JSON values, for hashes and reports."""
        return [step.to_json() for step in self.steps]


def build_pipeline(spec: Mapping[str, Mapping[str, Any] | None]) -> Pipeline:
    """Makes a pipeline of a configuration's `transform` mapping.

    Args:
        spec: name → parameters, in the order of application; None means no parameters.

    Raises:
        InputError: an unknown name or parameter (with the nearest known one), a missing or bad value, a bad
            order.
    """
    class_of = {known.__name__: known for known in KNOWN}
    steps = []
    for name, parameters in spec.items():
        if name not in class_of:
            raise InputError(f"transform {name!r} is not known{_nearest(str(name), class_of)}")
        steps.append(_build(class_of[name], parameters))
    return Pipeline(tuple(steps))


def _build(kind: type[Transform], parameters: Mapping[str, Any] | None) -> Transform:
    given = {} if parameters is None else parameters
    if not isinstance(given, Mapping):
        raise InputError(
            f"transform {kind.__name__}: {given!r} is not a mapping: write 'parameter: value' under it"
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in given:
        if name not in fields:
            raise InputError(
                f"transform {kind.__name__} has no parameter {name!r}{_nearest(str(name), fields)}"
            )
    for name, field in fields.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise InputError(f"transform {kind.__name__}: parameter {name!r} is missing: give it")
    return kind(**given)


def _nearest(name: str, known: Iterable[str]) -> str:
    """What to say after "not known": the nearest name, whatever its case, or all of them."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    if not by_lower:
        return ": it takes none"
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return (
        f": did you mean {by_lower[close[0]]!r}?" if close else f": known are {', '.join(by_lower.values())}"
    )
