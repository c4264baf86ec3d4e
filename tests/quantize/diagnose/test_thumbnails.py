"""Small copies of images."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from quantize.diagnose.thumbnails import thumbnail


def decoded(uri: str) -> Image.Image:
    head, _, text = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_photograph_is_made_small_and_stays_upright(tmp_path: Path) -> None:
    pixels = np.zeros((600, 900, 3), np.uint8)
    pixels[:, :450, 0] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "a secret"
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    made = thumbnail(tmp_path / "a.jpg")
    assert made is not None
    assert not made.tiny
    small = decoded(made.uri)
    assert small.size == (160, 240)
    top, bottom = small.getpixel((80, 20)), small.getpixel((80, 220))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200
    assert bottom[0] < 50
    assert b"secret" not in base64.b64decode(made.uri.partition(",")[2])
    as_stored = thumbnail(tmp_path / "a.jpg", exif_orientation=False)
    assert as_stored is not None
    assert decoded(as_stored.uri).size == (240, 160)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_small_images_of_any_mode_stay_as_they_are(mode: str, tmp_path: Path) -> None:
    Image.new("RGB", (16, 12), (200, 30, 30)).convert(mode).save(tmp_path / "a.png")
    made = thumbnail(tmp_path / "a.png")
    assert made is not None
    assert made.tiny
    assert decoded(made.uri).size == (16, 12)


def test_what_is_gone_or_no_image_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert thumbnail(tmp_path / "a.jpg") is None
    assert thumbnail(tmp_path / "absent.jpg") is None
