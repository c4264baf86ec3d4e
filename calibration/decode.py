"""One image file → upright 8-bit RGB pixels, whatever the file holds.

The file is not trusted. Only formats that plain decoders read are opened, whatever the name says: Pillow
knows some forty, among them EPS, which it hands to another program. What a file may decode to is bounded, and
so are the pixels that all threads together hold at a time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Imported by name, so that Pillow never looks for a format among all plugins that are installed.
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from calibration.errors import LIMITS, InputError, PipelineError, limit_behind
from calibration.regular import open_regular

FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)

# EXIF orientation (CIPA DC-008, tag 0x0112) → what makes the pixels upright; 1 means upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# 65535 = 255 · 257: dividing by 257 maps black to black and white to white.
_SIXTEEN_TO_EIGHT_BIT = 257
_SIXTEEN_BIT_ROWS_PIXELS = 1 << 20

# The largest image that is decoded has 90 million pixels; uncompressed, of four channels of 16 bits, it would
# have 720 MB. Some decoders read the whole file before they look at it.
_MOST_FILE_BYTES = 1 << 30

# A progressive JPEG may have any number of scans, and each passes over the whole image: 100 kB could cost
# hours. Encoders write about ten; libjpeg-turbo's own tools stop at 500 where they do not trust a file.
_MOST_JPEG_SCANS = 200
_START_OF_SCAN = b"\xff\xda"

# A TIFF is decoded tile by tile, and the file says how large a tile is, whatever the size of the image.
_TILE_SIZE_TAGS = (322, 323)
_LARGEST_TILE_PIXELS = 1 << 24

# Pixels that are decoded at the same time, by all threads together. At the worst moment one takes 12 bytes (a
# CMYK photograph that is turned upright) or 16 (WebP, which keeps frames): 2 GB. The largest image alone has
# two thirds of them.
_PIXELS_UNDER_WAY = 1 << 27


def load_image(path: str | Path, *, exif_orientation: bool = True) -> Image.Image:
    """Opens and decodes an image file.

    - Greyscale and 1-bit: the three channels are equal. 16-bit greyscale is scaled to 8 bits, not clipped.
    - Palette, CMYK (Adobe's inverted CMYK as well) and YCbCr: converted by Pillow, without a colour profile.
    - Alpha is dropped, not composited: the colours are those stored under it. That is what Pillow's
      `convert("RGB")`, and with it torchvision, INC and the published ImageNet results, do.
    - EXIF orientation: the image is turned upright, as viewers show it. torchvision and INC ignore the tag;
      `exif_orientation=False` gives what they see.
    - Animations: the first frame.

    Args:
        path: the image file.
        exif_orientation: whether the EXIF orientation is applied.

    Returns:
        An image of mode RGB with its pixels in memory; the file is closed.

    Raises:
        InputError: the file is missing, empty, truncated, damaged, too large, or no image that we can
            convert, or no file at all (a pipe, a device).
    """
    with decoded(path, exif_orientation=exif_orientation) as image:
        return image


@contextlib.contextmanager
def decoded(path: str | Path, *, exif_orientation: bool = True) -> Iterator[Image.Image]:
    """The same, as a context: the image's share of the memory for pixels is taken until it is left.

    Threads that decode many images at a time use this, and leave it when the image has been made small.
    """
    with contextlib.ExitStack() as taken:
        with _naming(path):
            image = _decode(path, exif_orientation, taken)
        yield image


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Turns whatever a decoder says into one line with the file's name and the cure."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such image file") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is empty, damaged, or no image: replace it, or take it off the list"
        ) from error
    except MemoryError:  # nothing that the file could help: its size was checked
        raise
    except Exception as error:
        limit = limit_behind(error)
        if limit is not None:  # nor this: there are too many files open, for example
            raise PipelineError(f"{path}: {limit.strerror}; {LIMITS[limit.errno or 0]}") from error
        # Pillow's plugins answer damaged files with almost any exception (OSError, SyntaxError, struct.error,
        # EOFError, …); all of them mean the same to the user.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be decoded ({reason}): replace it, or take it off the list"
        ) from error


def _decode(path: str | Path, exif_orientation: bool, taken: contextlib.ExitStack) -> Image.Image:
    with open_regular(path) as file:
        size_bytes = file.seek(0, 2)
        if size_bytes > _MOST_FILE_BYTES:
            raise InputError(
                f"{size_bytes} bytes are more than the {_MOST_FILE_BYTES} allowed: take it off the list"
            )
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            _check_work(image, file)
            taken.enter_context(_UNDER_WAY.taking(image.width * image.height))
            image.load()
            turn = _UPRIGHT.get(_orientation(image)) if exif_orientation else None
            rgb = _to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


class _Budget:
    """A number of pixels that threads share: whoever asks for more than is left waits."""

    def __init__(self, pixels: int) -> None:
        self._all = self._left = pixels
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Holds so many pixels; an image that asks for more than there are gets all of them."""
        wanted = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()


_UNDER_WAY = _Budget(_PIXELS_UNDER_WAY)


def _check_size(image: Image.Image) -> None:
    """Refuses what Pillow only warns about: an image that decodes to gigabytes ("decompression bomb")."""
    if not image.width or not image.height:
        raise InputError(f"{image.width}x{image.height} pixels are no image: take it off the list")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise InputError(
            f"{image.width}x{image.height} pixels are more than the {limit} allowed: scale it down"
        )


def _check_work(image: Image.Image, file: BinaryIO) -> None:
    """Refuses files that are made to cost more than their pixels do."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and "progressive" in image.info:
        position = file.tell()
        file.seek(0)
        # In compressed data a byte of 255 is never followed by this one, so only markers are counted, and
        # those of an embedded preview.
        scans = file.read().count(_START_OF_SCAN)
        file.seek(position)
        if scans > _MOST_JPEG_SCANS:
            raise InputError(
                f"{scans} scans are more than the {_MOST_JPEG_SCANS} allowed: save it again, or take it off "
                "the list"
            )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, height = (int(image.tag_v2.get(tag) or 0) for tag in _TILE_SIZE_TAGS)
        if width * height > _LARGEST_TILE_PIXELS:
            raise InputError(
                f"tiles of {width}x{height} pixels are too large: save it again, or take it off the list"
            )


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        # Damaged metadata says nothing about the orientation, and the pixels are good.
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _sixteen_bit_to_rgb(image)
    if image.mode == "F":
        raise InputError("floating-point pixels have no agreed range: convert it to 8 bits")
    # Left in, it makes Pillow warn that palette transparency is lost; that is what we document.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _sixteen_bit_to_rgb(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, rounded to nearest; mode I is how some formats hold 16 bits in 32."""
    grey = np.asarray(image)
    made = np.empty(grey.shape, np.uint8)
    rows = max(1, _SIXTEEN_BIT_ROWS_PIXELS // grey.shape[1])
    for first in range(0, len(grey), rows):
        wide = grey[first : first + rows].astype(np.int64)
        if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
            raise InputError("32-bit pixels have no agreed range: convert it to 8 or 16 bits")
        made[first : first + rows] = (wide + _SIXTEEN_TO_EIGHT_BIT // 2) // _SIXTEEN_TO_EIGHT_BIT
    return Image.fromarray(made).convert("RGB")
