"""Which image files are meant: by names, folders, patterns, and standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from calibration.folders import IMAGE_SUFFIXES
from quantize.errors import InputError

STANDARD_INPUT = "-"

# How the files of common image formats begin; a list of file names begins with none of these.
_IMAGE_BEGINNINGS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
    b"P5",
    b"P6",
)

# A list of a million long names; what is longer is neither a list nor an image that would be decoded.
_INPUT_LIMIT_BYTES = 1 << 28

_MOST_MATCHES = 1_000_000


def find_images(words: Sequence[str], standard_input: BinaryIO, folder: Path) -> list[Path]:
    """The image files that the words of a command line mean, in their order, each once.

    - `-` is standard input: an image, or names, one a line or separated by NUL (`find -print0`).
    - A folder means the images in it and below (`IMAGE_SUFFIXES`), sorted.
    - A pattern (`*`, `?`, `[`), where no file of that name exists, means what it matches; `**` any depth.

    Args:
        words: what was written.
        standard_input: only read if a word asks for it.
        folder: where an image from standard input is put, as `standard-input`.

    Raises:
        InputError: a word means no file.
    """
    found: dict[Path, None] = {}
    for word in words:
        meant = _from_standard_input(standard_input, folder) if word == STANDARD_INPUT else _meant_by(word)
        found |= dict.fromkeys(meant)
    return list(found)


def _meant_by(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        images = list(_in_folder(path))
        if not images:
            raise InputError(f"{word}: the folder holds no image ({' '.join(IMAGE_SUFFIXES)})")
        return images
    if path.exists() or not glob.has_magic(word):
        # One that does not exist is reported with the images that cannot be read, where it is one of many.
        return [path]
    # Links between folders can make as many ways through them as there are orders, and glob goes them all.
    found = list(islice(glob.iglob(str(path), recursive=True), _MOST_MATCHES + 1))
    if len(found) > _MOST_MATCHES:
        raise InputError(
            f"{word}: the pattern matches more than {_MOST_MATCHES} names; name a folder instead"
        )
    matches = [Path(match) for match in sorted(found)]
    files = [match for match in matches if match.is_file()]
    if not files:
        raise InputError(f"{word}: the pattern matches no file; check it, and the folder that you are in")
    return files


def _in_folder(top: Path) -> Iterator[Path]:
    """Images of a folder and those below, by name, without hidden ones; no folder is entered twice."""
    entered: set[str] = set()
    waiting = [(os.fspath(top), True)]
    while waiting:
        name, is_folder = waiting.pop()
        if not is_folder:
            yield Path(name)
            continue
        real = os.path.realpath(name)
        if real in entered:
            continue
        entered.add(real)
        try:
            with os.scandir(name) as entries:
                inside = [
                    (entry.path, entry.is_dir())
                    for entry in entries
                    if not entry.name.startswith(".")
                    and (entry.is_dir() or entry.name.lower().endswith(IMAGE_SUFFIXES))
                ]
        except OSError as error:
            raise InputError(f"{name}: cannot be listed: {error.strerror or error}") from error
        waiting += sorted(inside, reverse=True)


def _from_standard_input(stream: BinaryIO, folder: Path) -> list[Path]:
    content = stream.read(_INPUT_LIMIT_BYTES + 1)
    if len(content) > _INPUT_LIMIT_BYTES:
        raise InputError(f"standard input: more than {_INPUT_LIMIT_BYTES} bytes; name the files instead")
    if content.startswith(_IMAGE_BEGINNINGS):
        path = folder / "standard-input"
        path.write_bytes(content)
        return [path]
    separator = b"\0" if b"\0" in content else b"\n"
    names = [os.fsdecode(line.rstrip(b"\r")) for line in content.split(separator) if line.strip()]
    if not names:
        raise InputError("standard input: is empty; pipe an image or file names into it, one a line")
    return [path for name in names for path in _meant_by(name)]
