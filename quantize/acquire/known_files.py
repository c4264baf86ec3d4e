"""Files that are known by their hash, so that it does not matter where they come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantize.errors import InputError

_ZOO = "https://github.com/onnx/models/raw/main/validated/vision/classification/mobilenet/model"
_MIRROR = "https://huggingface.co/onnxmodelzoo"


@dataclass(frozen=True)
class KnownFile:
    """One published file.

    Attributes:
        name: as it was published.
        sha256, size_bytes: of its content.
        urls: where it may be had, the first choice first.
        what: one line for people.
    """

    name: str
    sha256: str
    size_bytes: int
    urls: tuple[str, ...]
    what: str


KNOWN_FILES = (
    KnownFile(
        name="mobilenetv2-12.onnx",
        sha256="c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5",
        size_bytes=13_964_571,
        urls=(
            f"{_ZOO}/mobilenetv2-12.onnx",
            f"{_MIRROR}/mobilenetv2-12/resolve/main/mobilenetv2-12.onnx",
        ),
        what="MobileNet v2-1.0-fp32 of the ONNX Model Zoo, opset 12",
    ),
)


def known_by_name(name: str, files: Iterable[KnownFile] = KNOWN_FILES) -> KnownFile:
    """Looks a file up by its name, with or without its suffix.

    Raises:
        InputError: there is none; the message lists those that there are.
    """
    by_name = {file.name: file for file in files}
    found = by_name.get(name) or by_name.get(f"{name}.onnx")
    if found is None:
        raise InputError(
            f"{name}: is neither a file here, nor an address (https://…), nor a known model; known are "
            f"{', '.join(by_name)}"
        )
    return found


def known_by_hash(sha256: str, files: Iterable[KnownFile] = KNOWN_FILES) -> KnownFile | None:
    """The published file of this content, None if it is none that is known."""
    return next((file for file in files if file.sha256 == sha256), None)
