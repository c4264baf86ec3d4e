"""A pipeline in two parts: what moves pixels, worth remembering, and what computes on their values, cheap.

The first part is the longest beginning that keeps 8-bit pixels. If all the rest works on each value for
itself, a table of 256 entries per channel says what it does; looking values up is ten times faster than
computing them and gives the same bits, because the table is computed by the very same transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from calibration.transforms.arithmetic import Cast, LabelShift, Normalize, Rescale, Transpose
from calibration.transforms.base import Array, Pixels, Spec, Transform, as_array
from calibration.transforms.geometry import CenterCrop, Resize, ResizeShortest
from calibration.transforms.pipeline import Pipeline

_MOVES_PIXELS = (CenterCrop, LabelShift, Resize, ResizeShortest)
_WORKS_ON_VALUES = (Cast, LabelShift, Normalize, Rescale, Transpose)

_VALUE_COUNT = 256
# A width that Normalize cannot take for a number of channels (1 or 3), with room to spare.
_TABLE_WIDTH = 5
_CHANNEL_COUNTS = (1, 3)

Planes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Stages:
    """A pipeline, cut in two: `pipeline(image) == finish(planes(image))`, bit for bit.

    Attributes:
        geometry: the steps up to the cut.
        values: the steps behind it.
        label_shifts: those of all steps that change the label.
        table: [3, 256], channel and 8-bit value -> value of the result; None where the steps behind the cut
            do not work on each value for itself.
        order: how the axes channel, height, width are to be permuted for the result.
    """

    geometry: tuple[Transform, ...]
    values: tuple[Transform, ...]
    label_shifts: tuple[LabelShift, ...]
    table: Array | None
    order: tuple[int, ...]

    def planes(self, image: Image.Image) -> Planes:
        """An image behind the geometric steps, uint8 [3, H, W]; raises InputError as the steps do."""
        pixels: Pixels = image
        for step in self.geometry:
            if not isinstance(step, LabelShift):
                pixels, _ = step(pixels, 0)
        return np.ascontiguousarray(as_array(pixels).transpose(2, 0, 1))

    def label(self, label: int) -> int:
        """The label behind all steps; raises InputError as they do."""
        for step in self.label_shifts:
            _, label = step(_NO_PIXELS, label)
        return label

    def finish(self, planes: Planes, out: Array | None = None) -> Array:
        """The result of the whole pipeline.

        Args:
            planes: as `planes` gave them.
            out: where it goes, if given: contiguous, of the result's shape and dtype.

        Raises:
            InputError: as the steps behind the cut do.
        """
        tabulated = self.table is not None and not set(planes.shape[1:]) & set(_CHANNEL_COUNTS)
        made = self._looked_up(planes, out) if tabulated else self._computed(planes)
        if out is not None and made is not out:
            out[...] = made
            return out
        return made

    def _looked_up(self, planes: Planes, out: Array | None) -> Array:
        assert self.table is not None
        in_place = out is not None and self.order == (0, 1, 2)
        result = out if out is not None and in_place else np.empty(planes.shape, self.table.dtype)
        if self.table.dtype == np.float32:
            import cv2

            for plane, table, target in zip(planes, self.table, result, strict=True):
                cv2.LUT(plane, table, dst=target)
        else:
            for plane, table, target in zip(planes, self.table, result, strict=True):
                np.take(table, plane, out=target, mode="clip")
        return np.ascontiguousarray(result.transpose(self.order))

    def _computed(self, planes: Planes) -> Array:
        pixels: Pixels = np.ascontiguousarray(planes.transpose(1, 2, 0))
        for step in self.values:
            if not isinstance(step, LabelShift):
                pixels, _ = step(pixels, 0)
        return np.ascontiguousarray(as_array(pixels))


_NO_PIXELS: npt.NDArray[Any] = np.empty((0, 0, 3), np.uint8)


def cut(pipeline: Pipeline) -> Stages:
    """Cuts a pipeline where its pixels stop being 8-bit values, height by width by channel."""
    spec, count = Spec(), 0
    for step in pipeline.steps:
        behind = step.trace(spec)
        if not isinstance(step, _MOVES_PIXELS) or behind.dtype != np.uint8 or behind.axes != "HWC":
            break
        spec, count = behind, count + 1
    geometry, values = pipeline.steps[:count], pipeline.steps[count:]
    shifts = tuple(step for step in pipeline.steps if isinstance(step, LabelShift))
    axes = pipeline.output_spec().axes
    table = _table(values, axes) if all(isinstance(step, _WORKS_ON_VALUES) for step in values) else None
    if table is not None and table.dtype == np.float32:
        import cv2  # noqa: F401  # here, by one thread: where memory is short, several would find half of it
    return Stages(geometry, values, shifts, table, tuple("CHW".index(axis) for axis in axes))


def _table(steps: tuple[Transform, ...], axes: str) -> Array:
    """What the steps make of every value in every channel, [3, 256]."""
    column = np.arange(_VALUE_COUNT, dtype=np.uint8).reshape(-1, 1, 1)
    pixels: Pixels = np.ascontiguousarray(np.broadcast_to(column, (_VALUE_COUNT, _TABLE_WIDTH, 3)))
    for step in steps:
        if not isinstance(step, LabelShift):
            pixels, _ = step(pixels, 0)
    planes = as_array(pixels).transpose([axes.index(axis) for axis in "CHW"])
    return np.ascontiguousarray(planes[:, :, 0])
