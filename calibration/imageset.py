"""The value that the other rooms pass around: which images, with which labels."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.errors import InputError
from calibration.regular import open_regular

# Files are hashed in pieces of this size, so that memory does not depend on how large an image file is.
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class ImageSet:
    """An ordered set of labelled image files; nothing is opened until asked for.

    Invariant: `len(files) == len(labels)`, and image i is the file `root / files[i]` with class index
    `labels[i]`.

    Attributes:
        root: the folder that the names are relative to.
        files: names relative to `root`, with forward slashes, without duplicates.
        labels: class indices, each ≥ 0.
        source: where names and labels come from, for messages and the report.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    source: str

    def __post_init__(self) -> None:
        if len(self.files) != len(self.labels):
            raise ValueError(
                f"expected one label per file, got {len(self.files)} files, {len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """Path of one image."""
        return self.root / self.files[index]

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """The images at `indices`, in the order of `indices`."""
        return replace(
            self,
            files=tuple(self.files[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
        )

    def digest(self) -> str:
        """SHA-256, in hexadecimal, over names, labels and file contents in the set's order.

        `root` is left out: the same images in another place have the same digest. Every part is preceded by
        its length or is one of fixed length, so different sets cannot run together into the same bytes.

        Raises:
            InputError: a file cannot be read.
        """
        total = hashlib.sha256()
        for index, (name, label) in enumerate(zip(self.files, self.labels, strict=True)):
            encoded = os.fsencode(name)
            total.update(f"{len(encoded)}:".encode() + encoded + f":{label}:".encode())
            total.update(_file_digest(self.path(index)))
        return total.hexdigest()

    def overlap(self, other: ImageSet) -> int:
        """How many files of this set are also in `other`, links followed."""
        return len(other) - len(other.without(self))

    def without(self, other: ImageSet) -> ImageSet:
        """The images whose files are not in `other`, links followed, in this set's order."""
        theirs = set(other.real_paths())
        return self.subset([i for i, path in enumerate(self.real_paths()) if path not in theirs])

    def real_paths(self) -> Iterator[str]:
        """Where each file is, links followed; a folder is looked up once, a file only for being a link."""
        real_folders: dict[str, str] = {}
        for name in self.files:
            folder, base = posixpath.split(name)
            if folder not in real_folders:
                real_folders[folder] = os.path.realpath(self.root / folder)
            path = os.path.join(real_folders[folder], base)
            yield os.path.realpath(path) if os.path.islink(path) else path


def _file_digest(path: Path) -> bytes:
    """SHA-256 of one file's contents, read in pieces."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.digest()
