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


def _zoo(name: str, sha256: str, size_bytes: int, what: str, *, mirrored: bool = True) -> KnownFile:
    """A MobileNetV2 of the zoo; those that the zoo's organization mirrors have a second address."""
    mirror = (f"{_MIRROR}/{name}/resolve/main/{name}.onnx",) if mirrored else ()
    return KnownFile(f"{name}.onnx", sha256, size_bytes, (f"{_ZOO}/{name}.onnx", *mirror), what)


# Hash, bytes, opset and title of each: `model_sha`, `model_bytes`, `opset_version` and `model` of its entry
# in ONNX_HUB_MANIFEST.json of github.com/onnx/models (read at commit 06189933463e). The Git LFS pointers of
# -7, -12-int8 and -12-qdq in that repository (vision/classification/mobilenet/model) hold the same hashes and
# sizes.
KNOWN_FILES = (
    _zoo(
        "mobilenetv2-12",
        "c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5",
        13_964_571,
        "MobileNet v2-1.0-fp32 of the ONNX Model Zoo, opset 12",
    ),
    _zoo(
        "mobilenetv2-12-int8",
        "cc028fe6cae7bc11a4ff53cfc9b79c920e8be65ce33a904ec3e2a8f66d77f95f",
        3_655_033,
        "MobileNet v2-1.0-int8 of the ONNX Model Zoo, opset 12, already quantized (QOperator)",
    ),
    _zoo(
        "mobilenetv2-12-qdq",
        "41a36090dafe98f4ad8f9b7fe0b218c56ac3c031e547f0367c30655d2702bffe",
        3_593_903,
        "MobileNet v2-1.0-qdq of the ONNX Model Zoo, opset 12, already quantized (QDQ)",
        mirrored=False,
    ),
    _zoo(
        "mobilenetv2-10",
        "0e7c0aa4bc74650386fa1d2c84705753de7c2bdb21909ada5c59154bb429e092",
        13_963_115,
        "MobileNet v2-1.0 of the ONNX Model Zoo, opset 10",
    ),
    _zoo(
        "mobilenetv2-7",
        "c1c513582d56afceff8516c73804e484c81c6a830712ab6d682253f4a3cd042f",
        14_246_826,
        "MobileNet v2-7 of the ONNX Model Zoo, opset 7, batches of one image",
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
