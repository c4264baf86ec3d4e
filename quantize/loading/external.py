"""Weights in other files: found and read without ever leaving the folder of the model.

A model names such a file by a path relative to its own folder. The path is walked part by part, each opened
relative to the one before without following a link, so that nothing can be exchanged between the check and
the reading; and the file may have one name only, because a hard link is another way out of the folder. The
newest onnx and ONNX Runtime do the same; the older versions that are supported do less. ONNX Runtime also
took a location `*/_ORT_MEM_ADDR_/*` for an address in memory, and looks in the current folder if a model has
no file of its own: it is never shown external data at all.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import onnx

from quantize.loading.limits import PROTOBUF_LIMIT_BYTES
from quantize.loading.sizes import SizeError, called, claimed_bytes

# A 64-bit number has 19 digits.
_NUMBER = re.compile(r"[0-9]{1,19}")
_DRIVE = re.compile(r"[A-Za-z]:")


class ExternalDataError(ValueError):
    """External data may not or can not be read; the message names the tensor and the file."""


@dataclass(frozen=True)
class _Span:
    """A piece of a file: the parts of its relative path, and which bytes."""

    parts: tuple[str, ...]
    offset: int
    size_bytes: int


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data is in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def embed(tensors: list[onnx.TensorProto], folder: Path, *, room_bytes: int) -> None:
    """Reads external data into the tensors.

    Args:
        tensors: those with external data; changed.
        folder: of the model.
        room_bytes: how much they may take together.

    Raises:
        ExternalDataError: a path leaves the folder or is a link, a file is missing or shorter than claimed,
            or the data is more than a model can hold. Sizes are known before the first byte is read.
        SizeError: a shape or type is none.
    """
    spans = [_span(tensor) for tensor in tensors]
    total = sum(span.size_bytes for span in spans)
    if total > room_bytes:
        raise ExternalDataError(
            f"its weights take {total} bytes in files of their own; {PROTOBUF_LIMIT_BYTES} (2 GiB) is the "
            "most that a model can be here, give a smaller one"
        )
    for tensor, span in zip(tensors, spans, strict=True):
        tensor.raw_data = _read(folder, span, tensor)
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def locations(tensors: list[onnx.TensorProto]) -> list[str]:
    """The relative paths of the files with external data, in alphabetical order; raises as `embed`."""
    return sorted({"/".join(_span(tensor).parts) for tensor in tensors})


def _span(tensor: onnx.TensorProto) -> _Span:
    """Checks what a tensor says of where its data is."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise ExternalDataError(f"{called(tensor)} says twice where its external data is")
    location = entries.get("location", "")
    name = f"external data {location!r} of {called(tensor)}"
    if not location or "\0" in location or "\\" in location:
        raise ExternalDataError(f"{name}: is not a path; use a plain relative one, with /")
    if location.startswith("/") or _DRIVE.match(location):
        raise ExternalDataError(f"{name}: is an absolute path; keep the file in the model's folder")
    parts = tuple(part for part in location.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ExternalDataError(f"{name}: leaves the model's folder; keep the file in it")
    if not parts or location.endswith("/"):
        raise ExternalDataError(f"{name}: is a folder; name a file in it")
    if tensor.HasField("raw_data"):
        raise ExternalDataError(f"{name}: the model holds data of its own for it as well")
    size_bytes = claimed_bytes(tensor)
    offset = _number(entries.get("offset", "0"), "offset", name)
    length = _number(entries.get("length", str(size_bytes)), "length", name)
    if length != size_bytes:
        raise SizeError(
            f"{name}: its length is {length}, but its shape {list(tensor.dims)} takes {size_bytes} bytes"
        )
    return _Span(parts, offset, size_bytes)


def _number(text: str, what: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise ExternalDataError(f"{name}: its {what} {shown!r} is no number of bytes")
    return int(text)


def _read(folder: Path, span: _Span, tensor: onnx.TensorProto) -> bytes:
    name = f"external data {'/'.join(span.parts)!r} of {called(tensor)}"
    try:
        with _open(folder, span.parts, name) as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ExternalDataError(f"{name}: is not a file")
            if facts.st_nlink > 1:
                raise ExternalDataError(
                    f"{name}: is a hard link, which may be a file from outside the folder; copy it"
                )
            available = max(facts.st_size - span.offset, 0)
            if span.size_bytes > available:
                raise ExternalDataError(
                    f"{name}: needs {span.size_bytes} bytes from byte {span.offset} on, but the file has "
                    f"{available} there; copy it again"
                )
            stream.seek(span.offset)
            content = stream.read(span.size_bytes)
    except OSError as error:
        raise ExternalDataError(f"{name}: cannot be read ({error.strerror})") from error
    if len(content) != span.size_bytes:  # another program made it shorter meanwhile
        raise ExternalDataError(f"{name}: became shorter while it was read; try again")
    return content


def _open(folder: Path, parts: tuple[str, ...], name: str) -> IO[bytes]:
    """Opens a file below a folder; each part of the path from the one before, and no link is followed."""
    # Not blocking: a pipe without a writer would be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = _step(part, held, flags | os.O_DIRECTORY, name)
            os.close(held)
            held = inner
        return _stream(_step(parts[-1], held, flags, name))
    finally:
        os.close(held)


def _stream(descriptor: int) -> IO[bytes]:
    try:
        return os.fdopen(descriptor, "rb")
    except OSError:  # a folder
        os.close(descriptor)
        raise


def _step(part: str, folder: int, flags: int, name: str) -> int:
    try:
        return os.open(part, flags, dir_fd=folder)
    except (OSError, ValueError) as error:
        raise ExternalDataError(f"{name}: {_why(part, folder, error)}") from error


def _why(part: str, folder: int, error: Exception) -> str:
    try:
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            return f"{part!r} is a symbolic link, which is not followed; copy the file into the folder"
    except FileNotFoundError:
        return "does not exist; copy it beside the model"
    except (OSError, ValueError):
        pass
    return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
