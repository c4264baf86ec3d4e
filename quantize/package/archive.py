"""A `.tar.gz` whose bytes depend on its content only: no times, no owners, no order of a file system."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping

# What `git archive` and most build tools write for a file that anybody may read.
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755

_COMPRESSION_LEVEL = 9


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    """Packs files, folders first, in sorted order.

    The same content gives the same bytes in every run; another build of zlib may compress it differently.

    Args:
        files: name with forward slashes → content.
    """
    packed = io.BytesIO()
    # A name in the gzip header would be that of the file, a time that of the run.
    with (
        gzip.GzipFile(
            filename="", mode="wb", fileobj=packed, compresslevel=_COMPRESSION_LEVEL, mtime=0
        ) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for folder in _folders(files):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, _FOLDER_MODE
            tar.addfile(entry)
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), _FILE_MODE
            tar.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of such an archive, in memory; nothing is written."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            if content is not None:
                files[entry.name] = content.read()
    return files


def _folders(files: Mapping[str, bytes]) -> list[str]:
    found: set[str] = set()
    for name in files:
        parts = name.split("/")[:-1]
        found.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return sorted(found)
