"""Temporary files and folders of a run: gone when it ends, and if it is killed, when the next one begins."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from calibration.claims import abandoned, claimed_folder, remove_folder
from quantize.errors import InputError

# As `tempfile` makes them.
_RANDOM = "[a-z0-9_]{8}"
_TEMPORARY = re.compile(rf"quantize-[a-z]+-{_RANDOM}")
_STAGED = re.compile(rf"\.quantize-{_RANDOM}(\.tmp)?")
STAGED_PREFIX = ".quantize-"

# What is done with an abandoned folder before it is removed.
Recover = Callable[[Path], None]


@contextlib.contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """A private folder for temporary files; gone afterwards whatever happens.

    Args:
        kind: what it is for, a lower-case word.

    Raises:
        InputError: there is no place for temporary files, or its name is no UTF-8.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(claimed_folder(None, f"quantize-{kind}-"))
        except OSError as error:
            raise InputError(
                f"cannot make a temporary folder ({error.strerror or error}); free some space, or set TMPDIR "
                "to a writable folder"
            ) from error
        try:
            str(folder).encode()
        except UnicodeEncodeError as error:  # ONNX Runtime writes into it, and takes UTF-8 names only
            raise InputError(
                f"{folder.parent}: the folder for temporary files has a name that is no UTF-8; set TMPDIR to "
                "another folder"
            ) from error
        yield folder


@contextlib.contextmanager
def staging_folder(beside: Path) -> Iterator[Path]:
    """A hidden folder inside `beside`; gone afterwards whatever happens. Raises OSError."""
    with claimed_folder(beside, STAGED_PREFIX) as folder:
        yield folder


def sweep_temporary() -> None:
    """Removes the temporary folders of this user's runs that were killed."""
    try:
        folder = Path(tempfile.gettempdir())
    except OSError:  # there is none, which whoever needs one will say
        return
    _sweep(folder, _TEMPORARY, lambda path: None)


def sweep_staged(folder: Path, recover: Recover = lambda path: None) -> None:
    """Removes what killed runs left inside a folder that they wrote to, never what a living one uses.

    Args:
        folder: may be missing.
        recover: called with each abandoned staging folder before it is removed.
    """
    _sweep(folder, _STAGED, recover)


def _sweep(folder: Path, names: re.Pattern[str], recover: Recover) -> None:
    try:
        found = [name for name in os.listdir(folder) if names.fullmatch(name)]
    except OSError:
        return
    for name in sorted(found):
        path = folder / name
        with abandoned(path) as ours:
            if not ours:
                continue
            if path.is_dir():
                recover(path)
                remove_folder(path)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
