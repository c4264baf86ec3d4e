"""Which files of a folder were opened, by whatever code of whatever process: the kernel tells (inotify).

Python's audit events do not show what onnx and ONNX Runtime open in C++.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# linux/inotify.h; an event is watch, mask, cookie, length, and so many bytes of name.
_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_HEADER = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 16


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Watches a folder; what it yields lists, also afterwards, the names of the files opened in it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs inotify, which only Linux has")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    seen: list[str] = []
    watching = True

    def names() -> list[str]:
        while watching:
            try:
                events = os.read(descriptor, _BUFFER_BYTES)
            except BlockingIOError:
                return seen
            at = 0
            while at < len(events):
                _, _, _, length = _HEADER.unpack_from(events, at)
                at += _HEADER.size
                name = events[at : at + length].rstrip(b"\0").decode(errors="replace")
                at += length
                if name:  # an event without a name is one of the folder itself
                    seen.append(name)
        return seen

    try:
        if libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_ACCESS | _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        yield names
        names()
    finally:
        watching = False
        os.close(descriptor)
