"""Temporary files and folders that belong to a living process, so that those of a dead one can be told.

The mark is a lock of the system (`flock`) on an open file: it ends with the process, however that ends, and
asks no clock and no process number, which may have been given to somebody else since. Where the file system
has no locks nothing is ever taken for abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from calibration.interrupts import uninterrupted

# Names the claim inside a claimed folder; removed last, so that a folder without it is empty or not ours.
CLAIM = ".claim"

# What this process claims and has not removed yet, for an end that cannot wait for blocks to be left, or in
# which a signal came between two of their steps.
_living: set[Path] = set()

# An empty folder without a claim is left alone for so long.
_UNCLAIMED_LIFE_S = 60.0

# Another process may take a new folder for an abandoned one before it is claimed; not three times in a row.
_ATTEMPTS = 10


def lock(descriptor: int) -> bool | None:
    """Takes the lock of an open file; False if another open file has it, None if there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def living(path: Path) -> Iterator[None]:
    """Says for the time of the block that a file or folder is to be removed if the process ends at once."""
    _living.add(path)
    try:
        yield
    finally:
        _living.discard(path)


def remove_living() -> None:
    """Removes everything of this process that is temporary, for an end that cannot wait."""
    for path in list(_living):
        if path.is_dir():
            remove_folder(path)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def claimed_file(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """A new, empty, private file that is claimed until its descriptor is closed.

    Whoever asks for it says `living` of it, or moves it away.

    Raises:
        OSError: it cannot be made.
    """
    with uninterrupted():
        for _ in range(_ATTEMPTS):
            descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=folder)
            if lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
                _living.add(Path(name))
                return descriptor, Path(name)
            os.close(descriptor)
    raise OSError(f"{folder}: other processes remove new files")


@contextlib.contextmanager
def claimed_folder(folder: Path | None, prefix: str) -> Iterator[Path]:
    """A new, private folder that is claimed for the time of the block, and gone afterwards.

    Args:
        folder: where to make it; the system's folder for temporary files if None.
        prefix: how its name begins.

    Raises:
        OSError: it cannot be made.
    """
    made: tuple[Path, int] | None = None
    try:
        # A signal that waits for the end of such a block is raised inside of the outer one.
        with uninterrupted():
            made = _new_folder(folder, prefix)
            _living.add(made[0])
        yield made[0]
    finally:
        if made is not None:
            with uninterrupted():
                remove_folder(made[0])
                os.close(made[1])
                _living.discard(made[0])


def _new_folder(folder: Path | None, prefix: str) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        try:
            descriptor = os.open(path / CLAIM, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            continue
        except OSError:
            remove_folder(path)
            raise
        if lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)
    raise OSError(f"{folder}: other processes remove new folders")


def remove_folder(path: Path) -> None:
    """Removes a claimed folder; what cannot be removed stays. The claim goes last."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(path)):
            if entry.name == CLAIM:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path / CLAIM)
        os.rmdir(path)


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody living claims a file or folder; if so, it is ours for the time of the block.

    Only real files and folders of this user count. A folder without a claim never does; one that has been
    empty for a minute is removed on the way.
    """
    descriptor = _opened_claim(path)
    try:
        yield descriptor is not None and lock(descriptor) is True
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened_claim(path: Path) -> int | None:
    try:
        status = os.lstat(path)
        if status.st_uid != os.geteuid():
            return None
        if stat.S_ISREG(status.st_mode):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        if not stat.S_ISDIR(status.st_mode):
            return None
        try:
            return os.open(path / CLAIM, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            # Killed between two steps. Whoever has just made it will see that it is gone, and try again; but
            # others make folders of such names too, an older version of this program among them.
            if time.time() - status.st_mtime > _UNCLAIMED_LIFE_S:
                os.rmdir(path)
            return None
    except OSError:
        return None
