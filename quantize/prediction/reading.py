"""Image files → batches, several decoded at a time; one that cannot be read does not stop the others."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.ahead import worked_ahead
from calibration.decode import load_image
from quantize.errors import InputError
from quantize.preprocessing import Preprocessing

# Images in the making or ready per thread, as in `calibration.dataloader`.
_AHEAD_PER_THREAD = 4


@dataclass(frozen=True, eq=False)
class Pixels:
    """One preprocessed image, or the reason why there is none.

    Attributes:
        path: the file.
        array: float32 without the batch axis; None if it failed.
        problem: one line; empty if it did not.
    """

    path: Path
    array: npt.NDArray[np.float32] | None
    problem: str = ""


def read_images(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    wanted: tuple[int | None, ...] = (),
    *,
    threads: int,
) -> Generator[Pixels, None, None]:
    """Decodes and transforms files, in their order, never far ahead of the consumer.

    Args:
        paths: the files.
        preprocessing: the transforms.
        wanted: extents of one image as the model takes it, None for any; checked where the transforms leave
            them to the image.
        threads: that decode.
    """
    # Where all images come out alike, it is the transforms that do not fit, and no image.
    checked = wanted if preprocessing.pipeline.output_shape() is None else ()

    def read(path: Path) -> Pixels:
        return _read(path, preprocessing, checked)

    ahead = threads * _AHEAD_PER_THREAD - 1  # beside the one whose result is awaited
    return worked_ahead(read, paths, workers=threads, ahead=ahead, name="decode")


def in_batches(images: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    """Groups of at most `size` images of one shape; one that failed goes with the group it stands in."""
    batch: list[Pixels] = []
    shape: tuple[int, ...] | None = None
    for image in images:
        other = image.array is not None and shape is not None and image.array.shape != shape
        if batch and (len(batch) == size or other):
            yield batch
            batch, shape = [], None
        batch.append(image)
        shape = image.array.shape if image.array is not None else shape
    if batch:
        yield batch


def stacked(batch: Sequence[Pixels]) -> npt.NDArray[np.float32] | None:
    """The images of a batch that could be read, [N, ...]; None if there is none."""
    arrays = [image.array for image in batch if image.array is not None]
    return np.stack(arrays) if arrays else None


def _read(path: Path, preprocessing: Preprocessing, wanted: tuple[int | None, ...]) -> Pixels:
    try:
        image = load_image(path, exif_orientation=preprocessing.exif_orientation)
        array: npt.NDArray[Any] = preprocessing.pipeline(image, 0)[0]
    except InputError as error:
        text = str(error).removeprefix(f"{path}: ")
        return Pixels(path, None, text)
    pairs = list(zip(array.shape, wanted, strict=False))
    if wanted and (array.ndim != len(wanted) or any(want not in (None, have) for have, want in pairs)):
        made, takes = (
            "x".join("?" if size is None else str(size) for size in shape) for shape in (array.shape, wanted)
        )
        problem = (
            f"comes out of the transforms as {made}, but the model takes {takes}: add Resize or CenterCrop"
        )
        return Pixels(path, None, problem)
    return Pixels(path, array.astype(np.float32, copy=False))
