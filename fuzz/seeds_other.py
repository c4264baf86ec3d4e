"""Seeds of images, archives and entries of the cache."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Mapping

import numpy as np
import scipy.io
from PIL import Image

from calibration.entry import Array, as_bytes, packed_header
from fuzz.targets.cache_entry import KEY


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _pixels(seed: int = 0, extent: int = 6) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (extent, extent + 1, 3), dtype=np.uint8))


def images() -> Mapping[str, str | bytes]:
    """Each format and each mode of pixels once, as small as they come."""
    picture = _pixels()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    grey16 = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000)
    return {
        "rgb.jpeg": _saved(picture, "JPEG", quality=50),
        "turned.jpeg": _saved(picture, "JPEG", exif=exif, quality=50),
        "progressive.jpeg": _saved(picture, "JPEG", progressive=True, quality=50),
        "cmyk.jpeg": _saved(picture.convert("CMYK"), "JPEG", quality=50),
        "rgb.png": _saved(picture, "PNG"),
        "rgba.png": _saved(picture.convert("RGBA"), "PNG"),
        "palette.png": _saved(picture.quantize(4), "PNG", transparency=1),
        "bilevel.png": _saved(picture.convert("1"), "PNG"),
        "grey16.png": _saved(grey16, "PNG"),
        "animated.gif": _saved(picture, "GIF", save_all=True, append_images=[_pixels(1)]),
        "rgb.bmp": _saved(picture, "BMP"),
        "rgb.ppm": _saved(picture, "PPM"),
        "deflated.tiff": _saved(picture, "TIFF", compression="tiff_adobe_deflate"),
        "grey16.tiff": _saved(grey16, "TIFF"),
        "lossless.webp": _saved(picture, "WEBP", lossless=True),
        "one-pixel.png": _saved(_pixels(2, 1).crop((0, 0, 1, 1)), "PNG"),
        "empty.jpeg": b"",
    }


def _tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, goal in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, goal
            tar.addfile(entry)
    # Python fills up to 10 kB with zeros; two empty blocks of 512 bytes end an archive as well.
    return stream.getvalue().rstrip(b"\0") + bytes(1024 + -len(stream.getvalue().rstrip(b"\0")) % 512)


def _classes(*, compressed: bool) -> bytes:
    names = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    rows = [(1, "n02119789", "kit fox", 0), (2, "n01440764", "tench", 0), (3, "n00001740", "entity", 2)]
    stream = io.BytesIO()
    table = np.array(rows, dtype=[(name, object) for name in names])
    scipy.io.savemat(stream, {"synsets": table}, do_compression=compressed)
    # Its header tells when it was made.
    return b"MATLAB 5.0 MAT-file".ljust(116) + stream.getvalue()[116:]


def development_kits() -> Mapping[str, str | bytes]:
    """Uncompressed, so that mutations reach what is inside, and as it is published."""
    truth = "kit/data/ILSVRC2012_validation_ground_truth.txt"
    plain = {truth: b"2\n1\n", "kit/data/meta.mat": _classes(compressed=False)}
    packed = {truth: b"1\n", "kit/data/meta.mat": _classes(compressed=True)}
    return {
        "plain.tar": _tar(plain),
        "compressed.mat.tar": _tar(packed),
        "published.tar.gz": gzip.compress(_tar(packed), mtime=0),
        "without-classes.tar": _tar({truth: b"1\n"}),
        "links.tar": _tar({truth: b"1\n"}, {"kit/data/meta.mat": "/etc/passwd"}),
    }


def validation_archives() -> Mapping[str, str | bytes]:
    """The images that the target has labels for, and what archives attack with."""
    one, two = (f"ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2))
    return {
        "good.tar": _tar({one: b"\xff\xd8one", f"./{two}": b"two"}),
        "outside.tar": _tar({f"../{one}": b"x", two: b"y"}),
        "absolute.tar": _tar({f"/tmp/{one}": b"x"}),
        "links.tar": _tar({one: b"x"}, {two: "../../outside"}),
        "twice.tar": _tar({one: b"x", f"./{one}": b"y"}),
        "empty.tar": bytes(1024),
    }


def cache_entries() -> Mapping[str, str | bytes]:
    """Arrays of each number of axes, and of each kind of numbers."""
    arrays: dict[str, Array] = {
        "pixels": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        "logits": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
        "scalar": np.array(7, np.int64),
        "none": np.zeros((0, 3), np.float16),
    }
    return {name: packed_header(KEY.hex(), value) + bytes(as_bytes(value)) for name, value in arrays.items()}


SEEDS: dict[str, Callable[[], Mapping[str, str | bytes]]] = {
    "image": images,
    "development_kit": development_kits,
    "validation_archive": validation_archives,
    "cache_entry": cache_entries,
}
