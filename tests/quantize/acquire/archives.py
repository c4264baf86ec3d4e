"""Small archives of the layout that image-net.org publishes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

# ILSVRC number → WordNet id, as in the official kit: not sorted, unlike labels.
SYNSETS = (
    ("n02119789", "kit fox, Vulpes macrotis"),
    ("n02100735", "English setter"),
    ("n01440764", "tench, Tinca tinca"),
    ("n03788365", "mosquito net"),
)
# The same in label order: sorted by id.
IN_LABEL_ORDER = sorted(SYNSETS)
# Of images 1 to 6.
NUMBERS = (3, 1, 4, 1, 2, 3)
LABELS = tuple(IN_LABEL_ORDER.index(SYNSETS[number - 1]) for number in NUMBERS)


def image_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}.JPEG"


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is a variable
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_val_tar(path: Path, count: int = len(NUMBERS)) -> Path:
    """Out of order, as in the official archive."""
    order = np.random.default_rng(5).permutation(count) + 1
    return write_tar(path, {image_name(int(number)): jpeg(int(number)) for number in order})


def meta_mat(synsets: Sequence[tuple[str, str]] = SYNSETS, *, backwards: bool = False) -> bytes:
    """`meta.mat` with the classes, and one synset above them that is no class."""
    kinds = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(number, wnid, words, "…", 0) for number, (wnid, words) in enumerate(synsets, start=1)]
    rows.append((len(rows) + 1, "n00001740", "entity", "…", 2))
    table = np.array(rows[::-1] if backwards else rows, dtype=kinds)
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"synsets": table})
    return stream.getvalue()


def write_devkit(path: Path, numbers: Sequence[int] = NUMBERS, meta: bytes | None = None) -> Path:
    root = "ILSVRC2012_devkit_t12"
    files = {
        f"{root}/readme.txt": b"hello",
        f"{root}/data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{n}\n" for n in numbers).encode(),
        f"{root}/data/meta.mat": meta_mat() if meta is None else meta,
    }
    return write_tar(path, files, mode="w:gz")
