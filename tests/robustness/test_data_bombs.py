"""Image files that are made to cost memory, time, or more: refused before they do."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import ImageFile

from calibration import decode
from calibration.decode import decoded, load_image
from tests.robustness import bad_files
from tests.robustness.bad_files import HUGE, photograph
from tests.robustness.image_files import refused

BOMBS = {
    "PNG": bad_files.png(HUGE, HUGE),
    "GIF": bad_files.gif(HUGE, HUGE),
    "BMP": bad_files.bmp(HUGE, HUGE),
    "JPEG": bad_files.jpeg(HUGE, HUGE),
    "TIFF": bad_files.tiff(HUGE, HUGE),
    "WebP": bad_files.webp(16_000, 16_000),
    "PPM": bad_files.ppm(HUGE, HUGE),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.robustness(
    "Data",
    "A file of a few kilobytes says that it has 3,600 million pixels (PNG, GIF, BMP, JPEG, TIFF, WebP, PPM)",
    "Refused by what its header says, before any of them is decoded",
)
@pytest.mark.parametrize("kind", BOMBS)
def test_decompression_bombs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: ImageFile.ImageFile) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    path = tmp_path / "x.jpg"
    path.write_bytes(BOMBS[kind])
    assert path.stat().st_size < 10_000
    message = refused(path)
    assert "was decoded" not in message
    assert "exceeds limit" in message or "are more than the" in message, message


@pytest.mark.robustness(
    "Data",
    "Images just below the limit come from all threads at once",
    "They take turns: together they hold no more pixels than the budget",
)
def test_large_images_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph(100, 90).save(tmp_path / "x.png")
    monkeypatch.setattr(decode, "_UNDER_WAY", decode._Budget(20_000))
    inside, most, lock = 0, 0, threading.Lock()

    def use(_: int) -> None:
        nonlocal inside, most
        with decoded(tmp_path / "x.png"):
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.005)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(24)))
    assert most == 2
    # One that alone is larger than the budget is not kept waiting for ever.
    monkeypatch.setattr(decode, "_UNDER_WAY", decode._Budget(100))
    assert load_image(tmp_path / "x.png").size == (100, 90)


@pytest.mark.robustness(
    "Data",
    "A progressive JPEG of 64 x 64 pixels has 5,000 scans, each of which passes over the whole image",
    "Refused after counting them",
)
def test_jpeg_of_many_scans(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(bad_files.jpeg_of_many_scans(10))
    assert load_image(path).size == (64, 64)
    path.write_bytes(bad_files.jpeg_of_many_scans(5000))
    assert "scans are more than the 200 allowed" in refused(path)


@pytest.mark.robustness(
    "Data",
    "A TIFF of 10 x 10 pixels says that it is stored in tiles of 40,000 x 40,000",
    "Refused before memory for a tile is taken",
)
def test_tiff_of_huge_tiles(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(bad_files.tiff(10, 10, tile=(40_000, 40_000)))
    assert "tiles of 40000x40000 pixels are too large" in refused(path)


@pytest.mark.robustness(
    "Data", "A comment of 64 kB in a PNG decompresses to 64 MB", "Refused by the decoder's own limit"
)
def test_text_that_explodes(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bad_files.png_with_a_text_that_explodes())
    assert "too large" in refused(path)


@pytest.mark.robustness(
    "Data", "A file without content of 2 GB bears the name of an image", "Refused by its size, unread"
)
@pytest.mark.parametrize("beginning", [b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"])
def test_huge_files(tmp_path: Path, beginning: bytes) -> None:
    path = tmp_path / "x.webp"
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(2 << 30)  # sparse: it takes no room on the disk
    assert "bytes are more than the" in refused(path)


@pytest.mark.robustness(
    "Data",
    "A program in PostScript bears the name of a photograph; Pillow would hand it to Ghostscript",
    "Refused as no image; no other program is started",
)
def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)
    path = tmp_path / "x.jpg"
    photograph().save(path, "EPS")
    assert path.read_bytes().startswith(b"%!PS")
    assert "is empty, damaged, or no image" in refused(path)


@pytest.mark.robustness(
    "Data",
    "Formats that Pillow knows and that no set of photographs needs (icons, textures, pages) come under the "
    "names of photographs",
    "Refused as no image; their decoders are never entered",
)
@pytest.mark.parametrize("kind", ["ICO", "ICNS", "DDS", "TGA", "SGI", "PCX", "PDF", "JPEG2000"])
def test_other_formats(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    photograph(64, 64).save(path, kind)
    assert "is empty, damaged, or no image" in refused(path)
