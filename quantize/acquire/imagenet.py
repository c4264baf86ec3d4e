"""ILSVRC2012's validation archive and its ground truth → a folder of images and a `val.txt`.

Running it again changes nothing: an image that is there with the right content stays. `val.txt` is written
last, so that where it is, everything is.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantize.acquire.ground_truth import GroundTruth, one_line
from quantize.errors import InputError, PipelineError
from quantize.files import atomic_write_bytes, atomic_write_text, make_folder

# Of ILSVRC2012_img_val.tar, as image-net.org publishes it.
OFFICIAL_SHA1 = "5f3f73da3395154b60528b2b2a2caf2374f5f178"

_IMAGE = re.compile(r"(?:\./)?(ILSVRC2012_val_(\d{8})\.JPEG)")
_CHUNK_BYTES = 1 << 20

# The largest image of the official archive has about 15 MB.
_IMAGE_LIMIT_BYTES = 1 << 26

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PreparedImages:
    """What is there now.

    Attributes:
        images: the folder of the images.
        image_list: lines `name label`.
        synset: lines `wnid name` in label order; None if the ground truth does not name the classes.
        count: of images.
        written: how many of them were not there before.
    """

    images: Path
    image_list: Path
    synset: Path | None
    count: int
    written: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "dataset_location": str(self.images),
            "label_path": str(self.image_list),
            "synset": None if self.synset is None else str(self.synset),
            "count": self.count,
            "written": self.written,
        }


def prepare_imagenet(
    archive: Path,
    truth: GroundTruth,
    out: Path,
    *,
    sha1: str | None = OFFICIAL_SHA1,
    progress: Progress = lambda what, done, total: None,
) -> PreparedImages:
    """Extracts the images and writes their labels.

    Args:
        archive: `ILSVRC2012_img_val.tar`: JPEG files at its top level.
        truth: the labels.
        out: where to write: `images/`, `val.txt`, and `synset.txt` if the classes are named.
        sha1: of the archive; None trusts any.
        progress: told what is done, and how much of how much.

    Raises:
        InputError: the archive is another one, holds something else, or does not fit the labels.
        PipelineError: the disk is full or fails; what is there stays, and the next run goes on.
    """
    if not archive.is_file():
        raise InputError(f"--val_tar {archive}: there is no such file; it is ILSVRC2012_img_val.tar")
    if sha1 is not None:
        _check_sha1(archive, sha1, progress)
    label_of = _labels(archive, truth)
    images = out / "images"
    make_folder(images)
    _check_space(archive, images)
    written = 0
    for done, (name, content) in enumerate(_members(archive), start=1):
        written += _place(images / name, content)
        progress("extracting images", done, len(label_of))
    synset = None
    if truth.labels:
        synset = out / "synset.txt"
        atomic_write_text(synset, "".join(f"{label.wnid} {label.name}\n" for label in truth.labels))
    atomic_write_text(out / "val.txt", "".join(f"{name} {label_of[name]}\n" for name in sorted(label_of)))
    return PreparedImages(images, out / "val.txt", synset, len(label_of), written)


def _check_sha1(archive: Path, sha1: str, progress: Progress) -> None:
    digest, done, total = hashlib.sha1(usedforsecurity=False), 0, archive.stat().st_size
    with archive.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress("checking the archive", done, total)
    if digest.hexdigest() != sha1.lower():
        raise InputError(
            f"--val_tar {archive}: has SHA-1 {digest.hexdigest()}, expected {sha1}; download it again, or "
            "name the --sha1 of the archive that you mean"
        )


def _labels(archive: Path, truth: GroundTruth) -> dict[str, int]:
    """Image name → label, for exactly the images of the archive."""
    numbers = _image_numbers(archive)
    if len(numbers) != len(truth):
        raise InputError(
            f"--val_tar {archive}: holds {len(numbers)} images, but {truth.source} has {len(truth)} labels; "
            "they do not belong together"
        )
    if truth.by_name:
        unlabelled = sorted(set(numbers) - set(truth.by_name))
        if unlabelled:
            raise InputError(f"{truth.source}: has no label for {unlabelled[0]}")
        return {name: truth.by_name[name] for name in numbers}
    if sorted(numbers.values()) != list(range(1, len(numbers) + 1)):
        raise InputError(
            f"--val_tar {archive}: its images are not numbered 1 to {len(numbers)}, so labels without names "
            "cannot be told apart"
        )
    return {name: truth.in_order[number - 1] for name, number in numbers.items()}


def _image_numbers(archive: Path) -> dict[str, int]:
    """Name → number of every image, from the headers alone.

    Raises:
        InputError: something in the archive is no image of this set.
    """
    numbers: dict[str, int] = {}
    for entry in _entries(archive):
        if entry.isdir() and entry.name in (".", "./"):
            continue
        match = _IMAGE.fullmatch(entry.name)
        if match is None or not entry.isfile():
            raise InputError(
                f"--val_tar {archive}: holds {entry.name!r}, which is no validation image; is it the archive "
                "of another set?"
            )
        if match[1] in numbers:
            raise InputError(f"--val_tar {archive}: holds {match[1]} twice; download it again")
        if entry.size > _IMAGE_LIMIT_BYTES:
            raise InputError(f"--val_tar {archive}: {match[1]} claims {entry.size} bytes; download it again")
        numbers[match[1]] = int(match[2])
    if not numbers:
        raise InputError(f"--val_tar {archive}: holds no images; it is ILSVRC2012_img_val.tar")
    return numbers


def _entries(archive: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield from tar
    except (tarfile.TarError, EOFError) as error:
        raise InputError(
            f"--val_tar {archive}: is no readable tar archive ({one_line(error)}); download it again"
        ) from error


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each image; the names were checked, and no path of the archive is ever used."""
    try:
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                match = _IMAGE.fullmatch(entry.name)
                content = tar.extractfile(entry) if match is not None and entry.isfile() else None
                if match is not None and content is not None:
                    yield match[1], content.read()
    except (tarfile.TarError, EOFError) as error:
        raise InputError(
            f"--val_tar {archive}: ends too early ({one_line(error)}); download it again"
        ) from error


def _place(path: Path, content: bytes) -> bool:
    """Writes an image unless it is there; returns whether it did."""
    try:
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return False
    except OSError as error:
        raise PipelineError(
            f"{path}: cannot be read: {error.strerror}; remove it, or name another --out"
        ) from error
    atomic_write_bytes(path, content)
    return True


def _check_space(archive: Path, folder: Path) -> None:
    """The images take what the archive takes; those that are there already may be written anew."""
    there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    needed, free = archive.stat().st_size - there, shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"--out {folder.parent}: has {free / 1e9:.1f} GB free, but {needed / 1e9:.1f} GB are needed; "
            "free some space, or name another folder"
        )
