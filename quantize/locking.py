"""One run at a time in a folder.

The lock is one of the system (`flock`), so that it ends with its holder, however that ends; the file beside
the results only says who that is.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from calibration.claims import living, lock
from calibration.interrupts import uninterrupted
from quantize.errors import InputError
from quantize.files import make_folder
from quantize.printable import printable

LOCK = ".quantize.lock"

# A holder that is just leaving removes the file that we have opened; then the next one is opened.
_ATTEMPTS = 100
_MOST_WORDS_BYTES = 1000


@contextlib.contextmanager
def locked(folder: Path, flag: str) -> Iterator[None]:
    """Holds a folder against other runs; makes it, and removes it again if nothing was put into it.

    Where the file system has no locks, nothing is held.

    Args:
        folder: absolute.
        flag: the flag that named it, for messages.

    Raises:
        InputError: another run holds it, or it cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    make_folder(folder)
    path = folder / LOCK
    descriptor: int | None = None
    try:
        # A signal that waits for the end of such a block is raised inside of the outer one.
        with uninterrupted():
            descriptor = _held(path, flag)
        with living(path):
            yield
    finally:
        if descriptor is not None:
            with uninterrupted():
                with contextlib.suppress(OSError):
                    path.unlink()
                os.close(descriptor)
        for one in made:
            with contextlib.suppress(OSError):  # something is in it
                one.rmdir()


def _held(path: Path, flag: str) -> int:
    """The descriptor of the lock file, with the lock."""
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise InputError(
                f"{flag} {path.parent}: cannot write there ({error.strerror}); choose a writable folder"
            ) from error
        if lock(descriptor) is False:
            holder = _read(descriptor)
            os.close(descriptor)
            raise InputError(
                f"{flag} {path.parent}: another run writes there{holder}; wait for it, or name another folder"
            )
        if _is_still(path, descriptor):
            _write(descriptor)
            return descriptor
        os.close(descriptor)
    raise InputError(f"{flag} {path.parent}: other runs come and go there; name another folder")


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file that is open still has its name; a holder that leaves takes it away."""
    try:
        named = os.lstat(path)
    except OSError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _write(descriptor: int) -> None:
    """Says who we are. On a full disk nobody will know, and the lock holds all the same."""
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    words = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since})
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, words.encode(), 0)


def _read(descriptor: int) -> str:
    """Who holds the lock, in parentheses; nothing if the file does not say."""
    try:
        words = json.loads(os.pread(descriptor, _MOST_WORDS_BYTES, 0))
        return printable(f" (process {int(words['pid'])} on {words['host']}, since {words['since']})")
    except (OSError, ValueError, KeyError, TypeError):
        return ""
