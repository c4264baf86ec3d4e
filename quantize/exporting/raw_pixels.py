"""Exports the variant of a model that takes raw pixels, and proves on pixels that nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from calibration.decode import load_image
from quantize.errors import InputError
from quantize.exporting.agreement import Agreement
from quantize.exporting.uint8_input import PixelLayout, Split, fold_preprocessing, split_pipeline
from quantize.files import atomic_write_bytes, make_folder
from quantize.model import Signature, load_model, read_signature, serialize
from quantize.preprocessing import Preprocessing, read_preprocessing
from quantize.session import make_session, run

_SUFFIX = "-uint8"
_SEED = 20190113
# At least.
_NOISE_IMAGES = 4
# What stands for an open extent of an image.
_DEFAULT_EXTENT = 224

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PixelsExport:
    """What was written.

    Attributes:
        model: the file.
        input_name, input_shape: its input, uint8; open extents are names.
        layout: of the pixels.
        app: the steps that are left for the app, in order.
        agreement: with the model that it was made from, behind its own preprocessing.
        compared: what the images of the comparison were.
        note: which preprocessing was assumed; None if it was named.
    """

    model: Path
    input_name: str
    input_shape: tuple[int | str, ...]
    layout: PixelLayout
    app: Sequence[dict[str, Any]]
    agreement: Agreement
    compared: str
    note: str | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "model": str(self.model),
            "input": {"name": self.input_name, "dtype": "uint8", "shape": list(self.input_shape)},
            "layout": self.layout,
            "left_for_the_app": list(self.app),
            "agreement": self.agreement.to_json(),
            "compared_on": self.compared,
        }


def export_pixels(
    path: Path,
    folder: Path,
    *,
    config: Path | None = None,
    layout: PixelLayout = "NHWC",
    images: Sequence[Path] = (),
) -> PixelsExport:
    """Folds the preprocessing into a model, runs both, and writes `NAME-uint8.onnx`.

    Args:
        path: a float32 classifier, fp32 or int8 inside.
        folder: where to write; made if it does not exist.
        config: whose preprocessing; see `read_preprocessing`.
        layout: of the pixels that the result takes.
        images: files to compare on, besides noise in which every channel has all 256 values.

    Raises:
        InputError: the preprocessing cannot be folded or does not fit, or an image cannot be read.
        EngineError: a model does not run.
    """
    model = load_model(path, named="")
    signature = read_signature(model, path, named="")
    preprocessing = read_preprocessing(config, signature.input_shape)
    split = split_pipeline(preprocessing.pipeline)
    made = fold_preprocessing(model, signature, split, layout=layout)
    content = serialize(made)
    noise = _noise(signature, split)
    pixels = [*noise, *_decoded(images, preprocessing, split, noise[0].shape)]
    agreement = _compare(path, content, pixels, signature=signature, split=split, layout=layout)
    make_folder(folder)
    target = folder / f"{path.stem}{_SUFFIX}.onnx"
    atomic_write_bytes(target, content)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    of_images = f" and {len(images)} images" if images else ""
    return PixelsExport(
        target,
        made.graph.input[0].name,
        tuple(dim.dim_value or dim.dim_param for dim in dims),
        layout,
        split.geometry.to_json(),
        agreement,
        f"{len(noise)} noise images with all 256 values in every channel{of_images}",
        preprocessing.note if preprocessing.assumed else None,
    )


def arithmetic(split: Split, pixels: Bytes) -> npt.NDArray[np.float32]:
    """What `calibration` makes of the pixels of one image, [H, W, 3] uint8 → the model's input."""
    made: Any = pixels
    for step in split.arithmetic:
        made, _ = step(made, 0)
    return np.ascontiguousarray(made, np.float32)


def _noise(signature: Signature, split: Split) -> list[Bytes]:
    height, width, _ = split.geometry.output_spec().shape
    spatial = signature.input_shape[2:] if signature.layout == "NCHW" else signature.input_shape[1:3]
    shape = [
        own or of_model or _DEFAULT_EXTENT for own, of_model in zip((height, width), spatial, strict=True)
    ]
    # The arithmetic works on single values: with all of them in every channel, nothing is left to chance.
    values = np.arange(256, dtype=np.uint8)
    count = max(_NOISE_IMAGES, -(-len(values) // (shape[0] * shape[1])))
    random = np.random.default_rng(_SEED)
    made = random.integers(0, 256, (count, *shape, 3), dtype=np.uint8)
    made.reshape(-1, 3)[: len(values)] = values[:, None]
    return list(made)


def _decoded(
    images: Sequence[Path], preprocessing: Preprocessing, split: Split, shape: tuple[int, ...]
) -> list[Bytes]:
    """Photographs behind the geometric transforms, which have to bring them to the shape of the noise."""
    found = []
    for path in images:
        pixels = split.geometry(load_image(path, exif_orientation=preprocessing.exif_orientation), 0)[0]
        if pixels.shape != shape:
            raise InputError(
                f"--images {path}: has {pixels.shape[0]}x{pixels.shape[1]} pixels behind the transforms, but "
                f"the model takes {shape[0]}x{shape[1]}; give another one, or add Resize or CenterCrop"
            )
        found.append(pixels)
    return found


def _compare(
    path: Path,
    content: bytes,
    pixels: Sequence[Bytes],
    *,
    signature: Signature,
    split: Split,
    layout: PixelLayout,
) -> Agreement:
    """Image after image, in batches of the size that the model insists on."""
    sessions = make_session(path, threads=1), make_session(content, threads=1)
    (port,) = (item.name for item in sessions[1].get_inputs())
    found = [
        (
            _scores(sessions[0], signature, signature.input_name, arithmetic(split, image)),
            _scores(sessions[1], signature, port, image if layout == "NHWC" else image.transpose(2, 0, 1)),
        )
        for image in pixels
    ]
    left, right = (np.concatenate(side) for side in zip(*found, strict=True))
    if left.shape != right.shape:
        raise InputError(
            f"{path}: gives {left.shape} scores, with pixels {right.shape}; check its input's shape"
        )
    return Agreement.of(left, right)


def _scores(
    session: ort.InferenceSession, signature: Signature, name: str, image: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    batch = np.ascontiguousarray(np.repeat(image[None], signature.batch or 1, axis=0))
    return run(session, [signature.output_name], {name: batch})[0][:1]
