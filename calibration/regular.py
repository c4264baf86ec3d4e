"""Files that somebody else named, opened so that nothing can block and nothing is endless.

A name may mean a pipe that nobody writes into, a terminal, or a device that never ends; only regular files
are read. Where a file has to be held in memory as a whole, its size is bounded as well.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from calibration.errors import InputError

# Opening a pipe would wait for its other end, and opening a terminal could make it ours; not on every system.
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)

_PIECE_BYTES = 1 << 20

_KINDS = {
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a regular file for reading, links followed.

    Raises:
        InputError: it is a pipe, a device or a socket; the message does not name it, the caller does.
        OSError: it is not there, is a folder, or may not be read.
    """
    # Asked before it is opened, because opening some devices does something, and after, because another file
    # may have taken the name in between.
    _require_regular(os.stat(path).st_mode, path)
    descriptor = os.open(path, os.O_RDONLY | _NEVER_WAIT)
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, *, limit_bytes: int, what: str) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        limit_bytes: what is longer is refused, without being read.
        what: what it should be, for the message: "a list of images".

    Raises:
        InputError: as `open_regular`, or it is too long.
        OSError: as `open_regular`.
    """
    content = bytearray()
    with open_regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        # Piece by piece, because some files of the system call themselves empty and are not, and others grow.
        while size_bytes <= limit_bytes and (piece := file.read(_PIECE_BYTES)):
            content += piece
            size_bytes = max(size_bytes, len(content))
    if size_bytes > limit_bytes:
        raise InputError(f"{size_bytes} bytes is too large for {what}; is it the right file?")
    return bytes(content)


def kind_of(mode: int) -> str:
    """What a file that is not regular is, in a word; empty for regular files and folders."""
    return _KINDS.get(stat.S_IFMT(mode), "")


def _require_regular(mode: int, path: str | Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise InputError(f"is a {kind_of(mode) or 'special file'}, and only files are read: give a file")
