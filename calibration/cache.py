"""Decoded, resized and cropped pixels on disk, so that no pass after the first decodes an image again.

An entry's key is made of everything that its pixels depend on: which file (path, size, times of last
modification and change, and its content where that is asked for), what was done to its geometry, and by which
versions of the libraries that do it. What changes gets another key, so that an entry never has to be found
out of date; entries of files that are gone age until their room is needed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.errors import InputError
from calibration.regular import open_regular
from calibration.store import Store
from calibration.transforms.base import Transform

# uint8 [3, H, W]: planes, because that is how the normalization reads them.
Planes = npt.NDArray[np.uint8]

KIND = "pixels"
# Raised when the meaning of an entry changes.
_FORM_VERSION = 1
_LIBRARIES = ("pillow", "opencv-python-headless", "opencv-python")
# The last tenth is left to what is remembered of models, which is small and costs more to make again.
_LIMIT_FRACTION = 0.9
_CHUNK_BYTES = 1 << 20


def default_folder() -> Path:
    """`quantize-pipeline` under $XDG_CACHE_HOME, or under ~/.cache.

    The specification says that a relative $XDG_CACHE_HOME is to be ignored.

    Raises:
        InputError: neither is known.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError as error:
        raise InputError("no home folder is known for the cache; set HOME, or give --cache_dir") from error
    return base / "quantize-pipeline"


def image_key(path: Path, context: str, *, by_content: bool = False) -> str:
    """What identifies an image file, as 64 hexadecimal digits.

    The time of change (ctime) is part of it because tools that copy files set the time of modification back.

    Args:
        path: the file.
        context: what else the value depends on.
        by_content: hash the content as well, for file systems that do not keep times.

    Raises:
        InputError: the file is not there or cannot be read.
    """
    try:
        stat = os.stat(path)
        content = _sha256(path) if by_content else ""
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        reason = "there is no such image file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path}: {reason}") from error
    facts = [os.path.abspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, content, context]
    return hashlib.sha256(os.fsencode(json.dumps(facts))).hexdigest()


class PixelCache:
    """Pixels behind one chain of geometric transforms.

    Attributes:
        by_content: whether keys hash the files' contents.
    """

    def __init__(
        self, store: Store, geometry: Sequence[Transform], *, exif_orientation: bool, by_content: bool = False
    ) -> None:
        self._store = store
        self.by_content = by_content
        facts: list[Any] = [_FORM_VERSION, exif_orientation, [step.to_json() for step in geometry]]
        self._context = json.dumps([*facts, _library_versions()])

    def key(self, path: Path) -> str:
        """The key of an image as it is now; raises as `image_key`."""
        return image_key(path, self._context, by_content=self.by_content)

    def get(self, key: str) -> Planes | None:
        """The pixels under a key, read-only [3, H, W], or None."""
        found = self._store.get(KIND, key)
        return found if found is None or found.dtype == np.uint8 else None

    def has(self, key: str) -> bool:
        """Whether there are pixels under a key, without reading them."""
        return self._store.has(KIND, key)

    def put(self, key: str, path: Path, pixels: Planes) -> None:
        """Keeps pixels, unless the file has changed since the key was made."""
        try:
            unchanged = self.key(path) == key
        except InputError:
            return
        if unchanged:
            self._store.put(KIND, key, pixels, limit_fraction=_LIMIT_FRACTION)


def _library_versions() -> list[str]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
