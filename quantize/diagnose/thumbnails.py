"""Small copies of images, as text that a page can hold."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from calibration.decode import load_image
from quantize.errors import InputError

# On screens of two pixels per point they are shown at half of it, as wide as half a phone.
_LONGER_SIDE_PIXELS = 240

# Digits and icons: smoothed to the size of a thumbnail they are a blur.
_TINY_PIXELS = 64

# 24 of them make about 200 kB; artefacts do not show at this size.
_JPEG_QUALITY = 72


@dataclass(frozen=True)
class Thumbnail:
    """A small image: its `data:` URI, and whether it has so few pixels that they are better seen as such."""

    uri: str
    tiny: bool


def thumbnail(path: Path, *, exif_orientation: bool = True) -> Thumbnail | None:
    """A JPEG, upright as the model saw it; None if the file is gone or cannot be read.

    Small images stay as they are, and are not made larger. Nothing of the file but its pixels is kept.
    """
    try:
        image = load_image(path, exif_orientation=exif_orientation)
    except InputError:
        return None
    image.thumbnail((_LONGER_SIDE_PIXELS, _LONGER_SIDE_PIXELS), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(pixels, "JPEG", quality=_JPEG_QUALITY)
    uri = "data:image/jpeg;base64," + base64.b64encode(pixels.getvalue()).decode("ascii")
    return Thumbnail(uri, max(image.size) <= _TINY_PIXELS)
