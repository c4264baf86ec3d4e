"""Writes files so that nobody ever sees half of one.

The bytes go to a temporary sibling, are flushed to the disk, and are moved over the final name in one
step (`os.replace` is atomic within a file system). After a failure the final name holds what it held before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from calibration.claims import claimed_file, living
from calibration.errors import LIMITS
from quantize.errors import InputError, PipelineError
from quantize.scratch import STAGED_PREFIX

# A model is read in pieces of this size to be hashed; large enough that the system call does not show.
_HASH_CHUNK_BYTES = 1 << 20


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` under `path`, all of it or none of it.

    Raises:
        InputError: the folder cannot be written, or `path` is a folder.
        PipelineError: the disk refused the data, for example because it is full.
    """
    if os.path.isdir(path):  # not Path.is_dir, which raises where a folder on the way is closed
        raise InputError(f"cannot write {path}: it is a folder; name a file inside it")
    try:
        descriptor, temporary = claimed_file(path.parent, STAGED_PREFIX, ".tmp")
    except OSError as error:
        raise InputError(
            f"cannot write into {path.parent}: {error.strerror or error}; choose a writable folder"
        ) from error
    try:
        # Claimed until it is closed, so it stays open until it has its final name.
        with os.fdopen(descriptor, "wb") as stream, living(temporary):
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            # mkstemp makes the file private; the result gets what an ordinary open() would have given it.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise PipelineError(
                f"could not write {path}: {error.strerror}; what was there is untouched; {_cure(error)}"
            ) from error
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 under `path`, all of it or none of it; raises as `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def sha256_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def make_folder(path: Path) -> None:
    """Creates a folder and its parents where they are missing.

    Raises:
        InputError: a file stands in the way, or the place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(
            f"cannot create the folder {path}: a file of that name exists; name another"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot create the folder {path}: {error.strerror}; choose a writable place"
        ) from error


def _cure(error: OSError) -> str:
    return LIMITS.get(error.errno or 0, "check the disk, or choose another place")


def _umask() -> int:
    """The process's umask; it can only be read by setting it."""
    current = os.umask(0o022)
    os.umask(current)
    return current
