"""One image file → upright 8-bit RGB pixels, whatever the file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from calibration.errors import InputError

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
            convert.
    """
    try:
        return _decode(path, exif_orientation)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such image file") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is empty, damaged, or no image: replace it, or take it off the list"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's plugins answer damaged files with almost any exception (OSError, SyntaxError, struct.error,
        # EOFError, …); all of them mean the same to the user.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be decoded ({reason}): replace it, or take it off the list"
        ) from error


def _decode(path: str | Path, exif_orientation: bool) -> Image.Image:
    with Image.open(path) as image:
        _check_size(image)
        image.load()
        turn = _UPRIGHT.get(_orientation(image)) if exif_orientation else None
        rgb = _to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _check_size(image: Image.Image) -> None:
    """Refuses what Pillow only warns about: an image that decodes to gigabytes ("decompression bomb")."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise InputError(
            f"{image.width}x{image.height} pixels are more than the {limit} allowed: scale it down"
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
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > np.iinfo(np.uint16).max:
        raise InputError("32-bit pixels have no agreed range: convert it to 8 or 16 bits")
    scaled = (grey + _SIXTEEN_TO_EIGHT_BIT // 2) // _SIXTEEN_TO_EIGHT_BIT
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
