"""Files that are made to hurt, each a few kilobytes on disk."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import ImageFileDirectory_v2

HUGE = 60_000


def photograph(width: int = 48, height: int = 40, seed: int = 0) -> Image.Image:
    """Smooth colours and some noise, so that every format has something to compress."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray((ramp + random.integers(0, 56, (height, width, 3))).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes = b"") -> bytes:
    """A PNG of 8-bit grey whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(pixels)),
            chunk(b"IEND", b""),
        )
    )


def png_with_a_text_that_explodes() -> bytes:
    """64 MB of zeros in a comment of 64 kB."""
    return png(1, 1, chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(1 << 26), 9)), pixels=b"\0\0")


def gif(width: int, height: int) -> bytes:
    whole = bytearray(encoded(Image.new("L", (2, 2)), "GIF"))
    whole[6:10] = struct.pack("<HH", width, height)
    return bytes(whole)


def bmp(width: int, height: int) -> bytes:
    whole = bytearray(encoded(Image.new("RGB", (2, 2)), "BMP"))
    whole[18:26] = struct.pack("<ii", width, height)
    return bytes(whole)


def jpeg(width: int, height: int) -> bytes:
    whole = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    start = whole.index(b"\xff\xc0")
    whole[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def jpeg_of_many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan, of 30 bytes or so, comes again and again."""
    whole = encoded(Image.new("L", (64, 64), 7), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:last] + whole[last:end] * count + whole[end:]


def tiff(width: int, height: int, tile: tuple[int, int] | None = None) -> bytes:
    """A TIFF of 8-bit grey that says where its pixels are, and that there are many."""
    tags = ImageFileDirectory_v2()
    tags[256], tags[257], tags[258], tags[259], tags[262] = width, height, 8, 8, 1
    tags[277] = 1
    data = zlib.compress(bytes(100))
    if tile is None:
        tags[273], tags[278], tags[279] = 8, height, len(data)
    else:
        tags[322], tags[323] = tile
        tags[324], tags[325] = 8, len(data)
    content = io.BytesIO()
    content.write(b"II*\0" + struct.pack("<I", 8 + len(data)) + data)
    tags.save(content)
    return content.getvalue()


def webp(width: int, height: int) -> bytes:
    """An extended WebP: the canvas is what the header says."""
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    whole = encoded(photograph(), "WEBP", lossless=True)
    frame_data = whole[12:]
    frame = bytes(6) + (47).to_bytes(3, "little") + (39).to_bytes(3, "little") + bytes(3) + b"\0" + frame_data
    chunks = b"".join(
        (
            b"VP8X" + struct.pack("<I", len(canvas)) + canvas,
            b"ANIM" + struct.pack("<I", 6) + bytes(6),
            b"ANMF" + struct.pack("<I", len(frame)) + frame,
        )
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def ppm(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255\n".encode() + bytes(64)


def animated(kind: str) -> bytes:
    """Three frames: black, grey, white."""
    frames = [Image.new("RGB", (16, 12), (level,) * 3) for level in (0, 127, 255)]
    settings = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **settings)
    with Image.open(io.BytesIO(content)) as image:
        assert sum(1 for _ in ImageSequence.Iterator(image)) == 3
    return content


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    # The path of a socket may have 108 bytes only, so that it is bound from within its folder.
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


# What is no regular file, by the word that messages have for it.
SPECIAL: dict[str, Callable[[Path], None]] = {"pipe": _pipe, "device": _device, "socket": _socket}
