"""Image lists in the format of ImageNet's `val.txt`: one `name label` per line."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from calibration.errors import InputError
from calibration.imageset import ImageSet

# 1.x looks for this name in the data folder when no list is given.
_DEFAULT_LIST = "val.txt"

# Labels end up in int64 arrays; a longer number is a damaged line, not a class.
_MAX_LABEL_DIGITS = 9


def read_image_list(data_path: str | Path, image_list: str | Path | None = None) -> ImageSet:
    """Reads a list of images and checks that every one of them is there.

    A line is `name label`, split at the last white space, so names may contain spaces. Blank lines, CRLF line
    ends and a byte-order mark are tolerated. The list's order is kept. A listed image that is missing is an
    error (1.x drops it silently, and measures on fewer images than it was told to).

    Args:
        data_path: the folder that the names are relative to.
        image_list: the list; `val.txt` in `data_path` when not given.

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
    for number, line in enumerate(read_lines(list_path), start=1):
        if not line.strip():
            continue
        where = f"{list_path}, line {number}"
        name, label = _parse_line(line, where)
        if name in first_line_of:
            raise InputError(
                f"{where}: {name!r} is already on line {first_line_of[name]}: remove one of the two"
            )
        first_line_of[name] = number
        labels.append(label)
    if not labels:
        raise InputError(f"{list_path}: lists no image: write one 'name label' per line")
    _check_present(root, list_path, first_line_of)
    return ImageSet(root, tuple(first_line_of), tuple(labels), f"image list {list_path}")


def check_folder(data_path: str | Path) -> Path:
    """Returns `data_path` as a Path, or raises InputError if it is not a folder."""
    root = Path(data_path)
    if not root.exists():
        raise InputError(f"{root}: there is no such folder: give the folder that holds the images")
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder: give the folder that holds the images")
    return root


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text file without their ends; a byte-order mark is dropped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file: give the list of images and labels") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not a UTF-8 text file (byte {error.start}): is it the right file?"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    # Only real line ends: str.splitlines would also split names at characters such as U+2028 and form feed.
    return text.replace("\r\n", "\n").split("\n")


def _parse_line(line: str, where: str) -> tuple[str, int]:
    """`name label` → normalized name with forward slashes, and label."""
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2:
        raise InputError(f"{where}: {line.strip()!r} has no label: write 'name label'")
    name, label = parts
    if not (label.isascii() and label.isdigit() and len(label) <= _MAX_LABEL_DIGITS):
        raise InputError(f"{where}: label {label!r} is not a class index: write an integer of 0 or more")
    if posixpath.isabs(name) or Path(name).is_absolute():
        raise InputError(f"{where}: {name!r} is an absolute path: write names relative to the data folder")
    normal = posixpath.normpath(name)
    if normal == ".." or normal.startswith("../"):
        raise InputError(f"{where}: {name!r} points out of the data folder: write names inside of it")
    return normal, int(label)


def _check_present(root: Path, list_path: Path, line_of: dict[str, int]) -> None:
    """Raises InputError if a listed image is not a file.

    Each folder is listed once instead of asking for each file: that is what keeps 50,000 names fast on slow
    disks.
    """
    files_in: dict[str, set[str]] = {}
    missing: list[str] = []
    for name in line_of:
        folder, base = posixpath.split(name)
        if folder not in files_in:
            files_in[folder] = _files_in(root / folder)
        if base not in files_in[folder]:
            missing.append(name)
    if missing:
        more = f" (and {len(missing) - 1} more of {len(line_of)})" if len(missing) > 1 else ""
        raise InputError(
            f"{list_path}, line {line_of[missing[0]]}: there is no image {missing[0]!r} in {root}{more}: "
            "check the data folder, or remove the line"
        )


def _files_in(folder: Path) -> set[str]:
    """Names of the files in a folder, links followed; none if it is not a readable folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        # Reported by the caller as a missing image, which names the line as well.
        return set()
