"""Decoding: every kind of image comes out as upright 8-bit RGB, or as one clear line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from calibration.errors import InputError
from calibration.images import load_image, read_image_list

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)


def pixels(path: Path, **options: bool) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = load_image(path, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("mode", ["L", "LA", "P"])
def test_grey_and_palette(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(RAMP).convert(mode).save(path)
    np.testing.assert_array_equal(pixels(path), np.repeat(RAMP[..., None], 3, axis=-1))


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 99).save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "1"
    np.testing.assert_array_equal(pixels(tmp_path / "x.png")[..., 1], np.where(RAMP > 99, 255, 0))


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP % 4).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.save(tmp_path / "index.png", transparency=1)
    image.save(tmp_path / "table.png", transparency=bytes([0, 255, 128, 7]))
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])[RAMP % 4]
    np.testing.assert_array_equal(pixels(tmp_path / "index.png"), expected)
    np.testing.assert_array_equal(pixels(tmp_path / "table.png"), expected)


def test_alpha_is_dropped_not_composited(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([COLOURS, RAMP])).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels(tmp_path / "x.png"), COLOURS)


def test_cmyk(tmp_path: Path) -> None:
    # Full ink is black, no ink is white; Pillow writes and reads Adobe's inverted form. Within 2 at 100.
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:, 8:, 3] = 255
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "x.jpg", quality=100)
    got = pixels(tmp_path / "x.jpg").astype(int)
    assert got[:, :7].min() >= 253
    assert got[:, 9:].max() <= 2


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    wide = (RAMP.astype(np.uint16) * 257)[::-1]
    Image.fromarray(wide).save(tmp_path / name)
    np.testing.assert_array_equal(pixels(tmp_path / name), np.repeat(RAMP[::-1][..., None], 3, axis=-1))


def test_sixteen_bit_grey_is_rounded_to_nearest(tmp_path: Path) -> None:
    Image.fromarray(np.array([[128, 129, 385, 386]], np.uint16)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels(tmp_path / "x.png")[0, :, 0], [0, 1, 1, 2])


def test_deeper_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(np.array([[0.0, 0.5]], np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match=r"i\.tif: 32-bit pixels have no agreed range"):
        load_image(tmp_path / "i.tif")
    with pytest.raises(InputError, match=r"f\.tif: floating-point pixels have no agreed range"):
        load_image(tmp_path / "f.tif")


# What a viewer does for each EXIF orientation, as numpy operations on the stored pixels.
TURNS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    stored = COLOURS[:6, :9]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "x.png"), TURNS[orientation](stored))
    np.testing.assert_array_equal(pixels(tmp_path / "x.png", exif_orientation=False), stored)


def test_sixteen_bit_grey_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(RAMP[:3].astype(np.uint16) * 257).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "x.png")[..., 0], np.rot90(RAMP[:3], -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("block", [b"Exif\x00\x00garbage", b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\xff\xff"])
def test_damaged_exif_does_not_cost_the_image(tmp_path: Path, block: bytes) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "x.jpg", exif=block)
    assert load_image(tmp_path / "x.jpg").size == (16, 16)


def test_unreadable_exif_does_not_cost_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which blocks make Pillow raise differs from version to version.
    def broken(_: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    Image.fromarray(COLOURS).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "getexif", broken)
    np.testing.assert_array_equal(pixels(tmp_path / "x.png"), COLOURS)


@pytest.mark.parametrize("value", [0, 9])
def test_senseless_orientation_is_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    Image.fromarray(COLOURS).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "x.png"), COLOURS)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (0, 255)]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(tmp_path / "x.webp").max() == 0


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").tolist() == [[[1, 2, 3]]]


def noise_jpeg(path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path.read_bytes()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    whole = noise_jpeg(path)
    png = tmp_path / "y.png"
    Image.fromarray(COLOURS).save(png)
    broken_png = bytearray(png.read_bytes())
    broken_png[60:70] = bytes(10)
    for content in (b"", b"hello", whole[:20], whole[: len(whole) // 2], bytes(broken_png)):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "replace it, or take it off the list" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.jpg: there is no such image file"):
        load_image(tmp_path / "x.jpg")
    with pytest.raises(InputError, match="cannot be decoded"):
        load_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 30)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)  # Pillow only warns below twice the limit.
    with pytest.raises(InputError, match=r"x\.png: 30x30 pixels are more than the 800 allowed"):
        load_image(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"x\.png: cannot be decoded \(Image size \(900 pixels\)"):
        load_image(tmp_path / "x.png")


def test_real_images_are_what_pillow_makes_of_them(shared_dir: Path) -> None:
    sample = shared_dir / "imagenet-sample"
    images = read_image_list(sample / "images", sample / "val.txt")
    for index in range(0, 500, 10):
        with Image.open(images.path(index)) as image:
            np.testing.assert_array_equal(
                np.asarray(load_image(images.path(index))), np.asarray(image.convert("RGB"))
            )
