"""Makes a model be there: by its name, its address, or a file that is there already."""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantize.acquire.addresses import check_address, lfs_pointer
from quantize.acquire.download import Progress, Wanted, download
from quantize.acquire.known_files import KNOWN_FILES, KnownFile, known_by_hash, known_by_name
from quantize.errors import InputError
from quantize.files import sha256_of_file
from quantize.model import load_model
from quantize.names import require_plain

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class AcquiredModel:
    """A model that is there, and is ONNX.

    Attributes:
        path, sha256, size_bytes: the file.
        known: which published file it is; None if it is none that is known.
        downloaded: whether it was downloaded now.
    """

    path: Path
    sha256: str
    size_bytes: int
    known: KnownFile | None
    downloaded: bool

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        known = None if self.known is None else {"name": self.known.name, "what": self.known.what}
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "known": known,
            "downloaded": self.downloaded,
        }


def acquire_model(
    source: str,
    output: Path,
    *,
    sha256: str | None = None,
    progress: Progress = lambda done_bytes, total_bytes: None,
    known_files: tuple[KnownFile, ...] = KNOWN_FILES,
) -> AcquiredModel:
    """Downloads a model, or checks one.

    Args:
        source: a file; an address; or the name of a known file.
        output: where a download goes: a folder, or a name ending in .onnx. A file stays where it is.
        sha256: what the content has to be; not needed for a known name.
        progress: see `download`.
        known_files: those that there are.

    Raises:
        InputError: there is no such model, or its content is not what it has to be.
        PipelineError: it could not be downloaded.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise InputError(f"--sha256 {sha256}: expected 64 hexadecimal digits")
    wanted_hash = None if sha256 is None else sha256.lower()
    if "://" in source:
        check_address(source, trusted=True)  # that it is one; `download` asks whether it may be used
        target = _target(output, Path(urllib.parse.urlsplit(source).path).name, source)
        wanted = Wanted((source,), target, wanted_hash)
    else:
        path = Path(source).expanduser()
        if path.is_file():
            return _checked(path, wanted_hash, downloaded=False, known_files=known_files)
        known = known_by_name(source, known_files)
        if wanted_hash not in (None, known.sha256):
            raise InputError(f"--sha256 {sha256}: {known.name} has {known.sha256}; leave it out")
        wanted = Wanted(known.urls, _target(output, known.name, source), known.sha256, known.size_bytes)
    downloaded = download(wanted, progress=progress)
    try:
        return _checked(wanted.target, wanted_hash, downloaded=downloaded, known_files=known_files)
    except InputError:
        # Nobody vouched for the content, and it is no model (a page that asks to log in, say).
        if downloaded and wanted.sha256 is None:
            os.unlink(wanted.target)
        raise


def _target(output: Path, name: str, source: str) -> Path:
    if output.suffix.lower() == ".onnx" and not output.is_dir():
        return output
    return output / require_plain(name, source)


def _checked(
    path: Path, sha256: str | None, *, downloaded: bool, known_files: tuple[KnownFile, ...]
) -> AcquiredModel:
    pointer = lfs_pointer(path)
    if pointer is not None:
        known = known_by_hash(pointer, known_files)
        name = f" (of {known.name}: prepare model {known.name} downloads it)" if known is not None else ""
        raise InputError(f"{path}: is a Git LFS pointer, not the model itself{name}; run git lfs pull")
    if sha256 is None:  # then its size is looked at before it is read to its end
        load_model(path, named="")
    found = sha256_of_file(path)
    if sha256 not in (None, found):
        raise InputError(f"{path}: has SHA-256 {found}, expected {sha256}; it is another file")
    if sha256 is not None:
        load_model(path, named="")
    return AcquiredModel(path, found, path.stat().st_size, known_by_hash(found, known_files), downloaded)
