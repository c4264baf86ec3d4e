"""Where matplotlib keeps its list of fonts, when it is ours to say.

Matplotlib makes `~/.config/matplotlib` and `~/.cache/matplotlib` when it is imported, and looks at every font
of the system, which takes seconds where there are many. Our charts are drawn by the reader's fonts, and only
measured with the one that comes with matplotlib.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from calibration.cache import default_folder
from calibration.errors import InputError

_FOLDER_NAME = "fonts"


def use_own_fonts() -> None:
    """Sets, for this process, what the user has not set; call it before matplotlib is imported.

    For the command line: whoever calls the library may draw with matplotlib too, in their own way. Where the
    folder cannot be made, matplotlib takes a temporary one.
    """
    with contextlib.suppress(InputError):  # there is no home folder: matplotlib takes a temporary one
        os.environ.setdefault("MPLCONFIGDIR", str(default_folder() / _FOLDER_NAME))
    os.environ.setdefault("MPL_IGNORE_SYSTEM_FONTS", "1")


def forget_fonts() -> int:
    """Removes what `use_own_fonts` has led to; returns the bytes that are free again."""
    folder = default_folder() / _FOLDER_NAME
    if folder.is_symlink() or not folder.is_dir():
        return 0
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return size_bytes
