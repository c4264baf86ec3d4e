"""Single image files, hostile or odd: decoded as documented, or refused in one line that names them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.dataloader import DataLoader
from calibration.decode import load_image
from calibration.errors import InputError
from calibration.imageset import ImageSet
from calibration.transforms import build_pipeline
from tests.robustness import bad_files
from tests.robustness.bad_files import SPECIAL, encoded, photograph
from tests.robustness.image_files import refused

ZOO = {
    "ResizeShortest": {"size": 256},
    "CenterCrop": {"size": 224},
    "Rescale": {},
    "Transpose": {"perm": [2, 0, 1]},
}


KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
CUTS = 24
FLIPS = 40


@pytest.mark.robustness(
    "Data",
    "A good image is cut off at every twenty-fourth of its length (JPEG, PNG, WebP, TIFF, BMP, GIF, PPM)",
    "Refused by name, or decoded whole where nothing of it was lost",
    times=CUTS,
)
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    whole = encoded(photograph(), kind)
    path.write_bytes(whole)
    expected = np.asarray(load_image(path))
    refusals = 0
    for part in range(CUTS):
        path.write_bytes(whole[: len(whole) * part // CUTS])
        try:
            image = load_image(path)
        except InputError as error:
            refusals += 1
            assert str(error).startswith(f"{path}: ")
        else:
            np.testing.assert_array_equal(np.asarray(image), expected)
    assert refusals > CUTS // 2


@pytest.mark.robustness(
    "Data",
    "Bits of a good image are flipped at random places (JPEG, PNG, WebP, TIFF, BMP, GIF, PPM)",
    "Refused by name, or decoded to some image; nothing else comes out of the decoder",
    times=FLIPS,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    whole = encoded(photograph(), kind)
    random = np.random.default_rng(5)
    for _ in range(FLIPS):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 400), 3):
            damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            assert load_image(path).mode == "RGB"
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)


@pytest.mark.robustness(
    "Data", "A file is empty, or holds text, or zeros", "Refused by name, as empty, damaged, or no image"
)
@pytest.mark.parametrize("content", [b"", b"not an image\n", bytes(1000)], ids=["empty", "text", "zeros"])
def test_no_image_at_all(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert refused(path) == "is empty, damaged, or no image: replace it, or take it off the list"


@pytest.mark.robustness(
    "Data",
    "An image has no pixels in one direction",
    "Refused by name",
)
@pytest.mark.parametrize(
    "content",
    [
        bad_files.png(0, 5),
        bad_files.bmp(0, 0),
        bad_files.tiff(5, 0),
        bad_files.ppm(0, 5),
        bad_files.jpeg(5, 0),
    ],
    ids=["PNG", "BMP", "TIFF", "PPM", "JPEG"],
)
def test_images_without_pixels(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    refused(path)


@pytest.mark.robustness(
    "Data",
    "A pipe, a device that never ends, a socket or a folder stands where an image should",
    "Refused at once by what it is; nothing waits, nothing is read",
)
@pytest.mark.parametrize("kind", [*SPECIAL, "folder"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    if kind == "folder":
        path.mkdir()
        assert "Is a directory" in refused(path)
    else:
        SPECIAL[kind](path)
        assert refused(path) == f"is a {kind}, and only files are read: give a file"


@pytest.mark.robustness(
    "Data",
    "The name ends in another format's suffix than the content is",
    "The content counts: the same pixels as under the right name",
)
@pytest.mark.parametrize(
    ("kind", "name"), [("PNG", "x.jpg"), ("JPEG", "x.png"), ("WEBP", "x"), ("BMP", "x.txt")]
)
def test_wrong_suffixes(kind: str, name: str, tmp_path: Path) -> None:
    content = encoded(photograph(), kind)
    right, wrong = tmp_path / f"right.{kind.lower()}", tmp_path / name
    for path in (right, wrong):
        path.write_bytes(content)
    np.testing.assert_array_equal(np.asarray(load_image(wrong)), np.asarray(load_image(right)))


@pytest.mark.robustness(
    "Data", "An image is animated (GIF, PNG, WebP, and a TIFF of three pages)", "Its first frame counts"
)
@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(bad_files.animated(kind))
    assert np.asarray(load_image(path)).max() == 0


def through(path: Path, transforms: dict[str, object] = ZOO) -> np.ndarray:
    loader = DataLoader(ImageSet(path.parent, (path.name,), (0,), "test"), build_pipeline(transforms))
    return loader.load(0)[0]


@pytest.mark.robustness(
    "Data",
    "Images are CMYK, 16-bit grey, 16-bit colour, 1-bit, or have a single pixel",
    "Each becomes what the model takes, of the colours that were meant",
)
@pytest.mark.parametrize("kind", ["CMYK", "16-bit grey", "16-bit colour", "1-bit", "1x1"])
def test_odd_pixels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    if kind == "CMYK":
        Image.new("CMYK", (300, 300), (0, 0, 0, 255)).save(path, "TIFF")
        expected = 0.0
    elif kind == "16-bit grey":
        Image.fromarray(np.full((300, 300), 128 * 257, np.uint16)).save(path)
        expected = 128 / 255
    elif kind == "16-bit colour":
        rows = (b"\0" + b"\x80\x80" * 3 * 300) * 300
        head = struct.pack(">IIBBBBB", 300, 300, 16, 2, 0, 0, 0)
        plain = bad_files.png(300, 300, pixels=rows)
        path.write_bytes(plain[:8] + bad_files.chunk(b"IHDR", head) + plain[8 + 25 :])
        expected = 128 / 255
    elif kind == "1-bit":
        Image.new("1", (300, 300), 1).save(path)
        expected = 1.0
    else:
        Image.new("RGB", (1, 1), (51, 51, 51)).save(path)
        expected = 0.2
    made = through(path)
    assert made.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(made, expected, atol=0.005)  # about one step of 8 bits


ELONGATED = {
    "ResizeShortest": ZOO,
    "ResizeCropImagenet": {"ResizeCropImagenet": {"height": 224, "width": 224}},
}


@pytest.mark.robustness(
    "Data",
    "An image is 30,000 pixels wide and one high: resized to a shorter side of 256 it would have 1,966 "
    "million",
    "Refused by name before it is resized, by every transform that keeps the shape",
)
@pytest.mark.parametrize("transform", ELONGATED)
@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000)], ids=["30000x1", "1x30000"])
def test_strips(transform: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", size).save(path)
    with pytest.raises(InputError, match=r"x\.png: transform .* the image is too elongated, take it off"):
        through(path, ELONGATED[transform])
    squashed = through(path, {"Resize": {"size": 224}, "Rescale": {}, "Transpose": {"perm": [2, 0, 1]}})
    assert squashed.shape == (1, 3, 224, 224)
    Image.new("RGB", (size[0] * 100, size[1]) if size[0] == 1 else (size[0], 100)).save(path)
    assert through(path, ELONGATED[transform]).shape == (1, 3, 224, 224)
