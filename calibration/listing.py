"""Image lists in the format of ImageNet's `val.txt`: one `name label` per line."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

from calibration.containment import Containment
from calibration.errors import InputError, quoted
from calibration.imageset import ImageSet
from calibration.regular import kind_of
from calibration.textfile import read_lines

__all__ = ["check_folder", "read_image_list"]

# 1.x looks for this name in the data folder when no list is given.
_DEFAULT_LIST = "val.txt"

# Labels end up in int64 arrays; a longer number is a damaged line, not a class.
_MAX_LABEL_DIGITS = 9


def read_image_list(
    data_path: str | Path,
    image_list: str | Path | None = None,
    *,
    follow_links: bool = False,
    all_present: bool = True,
) -> ImageSet:
    """Reads a list of images and checks that every one of them is there.

    A line is `name label`, split at the last white space, so names may contain spaces, and bytes that are no
    UTF-8. Blank lines, CRLF line ends and a byte-order mark are tolerated. The list's order is kept. A listed
    image that is missing is an error (1.x drops it silently, and measures on fewer images than it was told
    to).

    Args:
        data_path: the folder that the names are relative to.
        image_list: the list; `val.txt` in `data_path` when not given.
        follow_links: whether symbolic links may lead out of `data_path`.
        all_present: whether a missing image is an error here, and not only where it is read.

    Returns:
        All listed images, in the list's order.

    Raises:
        InputError: a file or folder is missing, or a line is malformed, duplicate, or points out of
            `data_path`.
    """
    root = check_folder(data_path)
    list_path = Path(image_list) if image_list is not None else root / _DEFAULT_LIST
    first_line_of: dict[str, int] = {}
    labels: list[int] = []
    for number, line in enumerate(read_lines(list_path, any_bytes=True), start=1):
        if not line.strip():
            continue
        where = f"{list_path}, line {number}"
        name, label = _parse_line(line, where)
        if name in first_line_of:
            raise InputError(
                f"{where}: {quoted(name)} is already on line {first_line_of[name]}: remove one of the two"
            )
        first_line_of[name] = number
        labels.append(label)
    if not labels:
        raise InputError(f"{list_path}: lists no image: write one 'name label' per line")
    _check_files(Containment(root, follow_links), list_path, first_line_of, all_present=all_present)
    return ImageSet(root, tuple(first_line_of), tuple(labels), f"image list {list_path}")


def check_folder(data_path: str | Path) -> Path:
    """Returns `data_path` as a Path, or raises InputError if it is not a folder."""
    root = Path(data_path)
    try:
        is_folder = stat.S_ISDIR(os.stat(root).st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{root}: there is no such folder: give the folder that holds the images") from error
    except (OSError, ValueError) as error:  # a name that is too long, a folder that is closed to us
        raise InputError(f"{root}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not is_folder:
        raise InputError(f"{root}: is not a folder: give the folder that holds the images")
    return root


def _parse_line(line: str, where: str) -> tuple[str, int]:
    """`name label` → normalized name with forward slashes, and label."""
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2:
        raise InputError(f"{where}: {quoted(line.strip())} has no label: write 'name label'")
    name, label = parts
    if not (label.isascii() and label.isdigit() and len(label) <= _MAX_LABEL_DIGITS):
        raise InputError(
            f"{where}: label {quoted(label)} is not a class index: write an integer of 0 or more"
        )
    if posixpath.isabs(name) or Path(name).is_absolute():
        raise InputError(
            f"{where}: {quoted(name)} is an absolute path: write names relative to the data folder"
        )
    normal = posixpath.normpath(name)
    if normal == ".." or normal.startswith("../"):
        raise InputError(f"{where}: {quoted(name)} points out of the data folder: write names inside of it")
    return normal, int(label)


def _check_files(inside: Containment, list_path: Path, line_of: dict[str, int], *, all_present: bool) -> None:
    """Raises InputError if a listed image is not a file, or is reached by a link out of the data folder.

    Each folder is listed once instead of asking for each file: that is what keeps 50,000 names fast on slow
    disks. Of what it holds only the listed names are kept, however many there are.
    """
    listed_in: dict[str, set[str]] = {}
    for name in line_of:
        folder, base = posixpath.split(name)
        listed_in.setdefault(folder, set()).add(base)
    absent: list[str] = []
    for folder, listed in listed_in.items():
        path = inside.root / folder
        first = min(line_of[posixpath.join(folder, base)] for base in listed)
        inside.check(path, f"{list_path}, line {first}")
        for entry in _entries(path):
            if entry.name not in listed:
                continue
            if entry.is_symlink():
                line = line_of[posixpath.join(folder, entry.name)]
                inside.check(entry.path, f"{list_path}, line {line}")
            if entry.is_file():
                listed.remove(entry.name)
        absent += (posixpath.join(folder, base) for base in listed)
    if absent and all_present:
        _refuse_absent(inside.root, list_path, line_of, absent)


def _refuse_absent(root: Path, list_path: Path, line_of: dict[str, int], absent: list[str]) -> None:
    first = min(absent, key=line_of.__getitem__)
    kind = ""
    with contextlib.suppress(OSError):
        kind = kind_of(os.stat(root / first).st_mode)
    what = (
        f"{quoted(first)} is a {kind}, no image" if kind else f"there is no image {quoted(first)} in {root}"
    )
    more = f" (and {len(absent) - 1} more of {len(line_of)})" if len(absent) > 1 else ""
    raise InputError(
        f"{list_path}, line {line_of[first]}: {what}{more}: check the data folder, or remove the line"
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, nothing if it is not a readable folder."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        # Reported by the caller as a missing image, which names the line as well.
        return
