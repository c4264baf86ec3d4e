"""An image file -> pixels -> the transforms of MobileNetV2, which are the usual ones."""

from __future__ import annotations

from functools import cache

import numpy as np

from calibration.decode import load_image
from calibration.transforms import Pipeline
from fuzz.harness import Target, file_of
from quantize.preprocessing import read_preprocessing


@cache
def _pipeline() -> Pipeline:
    return read_preprocessing(None, (None, 3, 224, 224)).pipeline


def run(data: bytes) -> None:
    """Decodes and transforms, with and without turning it upright."""
    with file_of(data, "fuzzed.jpeg") as path:
        for upright in (True, False):
            image = load_image(path, exif_orientation=upright)
            pixels, label = _pipeline()(image, 3)
            assert (pixels.shape, pixels.dtype.str, label) == ((3, 224, 224), "<f4", 3)
            assert np.isfinite(pixels).all()


TARGET = Target("image", "images", run, max_bytes=4096, short_runs=300)
