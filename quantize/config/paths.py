"""Paths in a configuration: what they may hold, what they are relative to, and which were never filled in."""

from __future__ import annotations

import os
import re
from pathlib import Path

from quantize.errors import quoted

__all__ = ["is_placeholder", "looks_like_class_folders", "resolve_path"]

# `/path/to/calibration/dataset` in the published configurations, `<DIR>` in ours, and what else people write.
_PLACEHOLDER = re.compile(r"(^|[/\\])path[/\\]to([/\\]|$)|<[^<>]*>|(^|[/\\])your[_-]|^\.\.\.$", re.IGNORECASE)

_UNSET_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")

# The file that 1.x `ImagenetRaw` looks for beside the images when no `image_list` is given.
IMAGE_LIST_NAME = "val.txt"


def is_placeholder(path: Path | str) -> bool:
    """Whether a path stands for one still to be filled in. A path that exists never does."""
    return bool(_PLACEHOLDER.search(str(path))) and not Path(path).exists()


def resolve_path(written: str | Path, folder: Path) -> Path:
    """The absolute path that is meant.

    Args:
        written: as in the configuration; text may hold `~` and `$NAME` or `${NAME}`. A `Path` object was not
            written in a file: it is relative to the working directory, and nothing in it is expanded.
        folder: what a written, relative path is relative to.

    Returns:
        An absolute path, or a placeholder exactly as it was written.

    Raises:
        ValueError: the text is empty or names an environment variable that is not set.
    """
    if isinstance(written, Path):
        return Path(os.path.abspath(written))
    if not written.strip() or "\0" in written:
        raise ValueError(f"expected a path, got {quoted(written)}")
    expanded = os.path.expandvars(os.path.expanduser(written))
    unset = _UNSET_VARIABLE.search(written)
    while unset and (unset[1] or unset[2]) in os.environ:
        unset = _UNSET_VARIABLE.search(written, unset.end())
    if unset:
        raise ValueError(
            f"environment variable {unset[1] or unset[2]} is not set, in {quoted(written)}; set it"
        )
    if is_placeholder(expanded) and not (folder / expanded).exists():
        return Path(expanded)
    return Path(os.path.abspath(folder / expanded))


def looks_like_class_folders(folder: Path) -> bool:
    """Whether a folder holds one sub-folder per class: at least two of them, and no image list."""
    folders = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == IMAGE_LIST_NAME:
                    return False
                folders += entry.is_dir() and not entry.name.startswith(".")
    except OSError:
        return False
    return folders >= 2
