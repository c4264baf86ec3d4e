"""The one way from a model's file to a model in memory, for every command and every inference session."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from quantize.errors import InputError
from quantize.loading import rehearsal
from quantize.loading.contents import tensors
from quantize.loading.external import ExternalDataError, embed, is_external, locations
from quantize.loading.growth import GrowthError, check_growth
from quantize.loading.limits import PROTOBUF_LIMIT_BYTES
from quantize.loading.rehearsal import RehearsalError
from quantize.loading.sizes import SizeError, check_size
from quantize.loading.structure import StructureError, check_structure
from quantize.loading.wire import WireError, check_wire


def read_model(path: Path, *, named: str = "") -> onnx.ModelProto:
    """Reads a model and the data beside it, whatever is in them, within bounded memory and time.

    Nothing outside the model's folder is opened (`quantize.loading.external`), nothing is executed, and the
    result refers to no other file. What it says is consistent: sizes, names, the order of operators.

    Args:
        path: the file.
        named: what stands before the path in messages.

    Raises:
        InputError: it is no file, no ONNX, too large, or inconsistent; the message says what and where.
    """
    model = _parsed(path, named)
    try:
        everything = list(tensors(model))
        external = [tensor for tensor in everything if is_external(tensor)]
        inside = [tensor for tensor in everything if not is_external(tensor)]
        for tensor in inside:
            check_size(tensor)
            del tensor.external_data[:]
        check_structure(model)
        if external:
            embed(external, _folder(path), room_bytes=PROTOBUF_LIMIT_BYTES - model.ByteSize())
        if rehearsal.is_needed():
            rehearsal.rehearse(model.SerializeToString())
        check_growth(model)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{named}{path}: is damaged: a name in it is no text ({error.reason}); copy or export it again"
        ) from error
    except SizeError as error:
        raise InputError(f"{named}{path}: {error}; copy or export the model again") from error
    except (ExternalDataError, GrowthError, RehearsalError, StructureError) as error:
        raise InputError(f"{named}{path}: {error}") from error
    return model


def external_files(path: Path) -> tuple[Path, ...]:
    """The files beside a model that its constants refer to, in alphabetical order.

    Raises:
        InputError: as `read_model`, of what can be told without opening them.
    """
    model = _parsed(path, "")
    try:
        return tuple(
            path.parent / name
            for name in locations([tensor for tensor in tensors(model) if is_external(tensor)])
        )
    except (ExternalDataError, SizeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def _folder(path: Path) -> Path:
    """Of the file as it was named: where a link to a model is, there its data is looked for."""
    return Path(os.path.abspath(path)).parent


def _parsed(path: Path, named: str) -> onnx.ModelProto:
    content = _content(path, named)
    try:
        check_wire(content, onnx.ModelProto.DESCRIPTOR)
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except (WireError, DecodeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{named}{path}: cannot be read as ONNX ({reason}); copy or export it again"
        ) from error
    return model


def _content(path: Path, named: str) -> bytes:
    """The bytes of the file, whose size is known before any is read."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{named}{path}: does not exist; give the path of an .onnx file") from error
    except OSError as error:
        raise InputError(f"{named}{path}: cannot be read ({error.strerror}); check the path") from error
    if not stat.S_ISREG(mode):
        what = "is a folder" if stat.S_ISDIR(mode) else "is no file"
        raise InputError(f"{named}{path}: {what}; give the path of an .onnx file")
    try:
        # Not blocking: what was a file may have become a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise InputError(f"{named}{path}: is no file; give the path of an .onnx file")
            if facts.st_size > PROTOBUF_LIMIT_BYTES:
                raise InputError(
                    f"{named}{path}: takes {facts.st_size} bytes; one ONNX file holds 2 GiB at most, give a "
                    "smaller model"
                )
            return stream.read(facts.st_size)
    except OSError as error:
        raise InputError(
            f"{named}{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
