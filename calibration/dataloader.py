"""Images → batches: decoded in parallel, delivered in order, with bounded memory."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from calibration.ahead import worked_ahead
from calibration.errors import InputError
from calibration.imageset import ImageSet
from calibration.prepared import Prepared
from calibration.progress import track
from calibration.scratch import Scratch
from calibration.store import Store
from calibration.transforms.pipeline import Pipeline

# Decoding is 3-4 ms an image and inference 6-9 ms on one core: more threads than this only wait.
_MAX_DEFAULT_WORKERS = 8

# Images in the making or ready per worker. Two keep a worker busy while its last image waits to be fetched;
# four even out images of very different size.
_PREFETCH_PER_WORKER = 4

# Looking an image up in the store takes less time than handing it to a thread.
_CHECKED_TOGETHER = 8

# What the names of the threads begin with.
_THREADS = "calibration"

T = TypeVar("T")
Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
_Sample = tuple[npt.NDArray[Any], int]
# How many images were looked at; index -> what is wrong with it; index -> its shape, where that may differ.
_Checked = tuple[int, dict[int, str], dict[int, tuple[int, ...]]]


class DataLoader:
    """Iterable, any number of times, over the batches of an image set.

    Yields `(inputs, labels)`, inputs float32 [N, *pipeline shape] and labels int64 [N], in the order of the
    set; N is `batch_size`, in the last batch perhaps less. What comes out does not depend on the number of
    workers.

    Images are decoded and transformed by threads (Pillow, OpenCV and numpy release the interpreter lock), at
    most `prefetch_images` ahead of the consumer, so memory does not grow with the set. The threads end with
    the iteration, also when the consumer stops early or is interrupted.

    Or batch by batch in any order, from any number of threads of the caller's: `load`.

    Attributes:
        images: the image set.
        pipeline: the transforms.
        batch_size: images per batch.
        progress: whether passes over it are shown.
        exif_orientation: see `load_image`.
        store: where decoded pixels are kept between passes and runs; None decodes in every pass.
    """

    def __init__(
        self,
        images: ImageSet,
        pipeline: Pipeline,
        *,
        batch_size: int = 1,
        workers: int | None = None,
        description: str = "reading images",
        progress: bool = False,
        prefetch_images: int | None = None,
        exif_orientation: bool = True,
        store: Store | None = None,
        by_content: bool = False,
    ) -> None:
        """Checks and keeps the settings; no image is read yet.

        Args:
            images: what to load.
            pipeline: how to make arrays of it; must end in float32.
            batch_size: images per batch.
            workers: number of threads; one per available core, but at most 8, when not given.
            description: what the progress display says.
            progress: whether each iteration shows its progress on standard error.
            prefetch_images: how many images may be in the making or waiting; four per worker when not given.
            exif_orientation: see `load_image`.
            store: see the attribute.
            by_content: tell images apart by their content too, not only by path, size and times.

        Raises:
            InputError: a number is less than 1, or the transforms do not end in float32.
        """
        self.images = images
        self.pipeline = pipeline
        self.batch_size = _at_least_one("batch_size", batch_size)
        self._workers = _default_workers() if workers is None else _at_least_one("workers", workers)
        ahead = self._workers * _PREFETCH_PER_WORKER if prefetch_images is None else prefetch_images
        self._prefetch_images = _at_least_one("prefetch_images", ahead)
        self._description = description
        self.progress = progress
        self.exif_orientation = exif_orientation
        _check_float32(pipeline)
        self.store = store
        self.by_content = by_content
        self._prepared = Prepared(
            images, pipeline, exif_orientation=exif_orientation, store=store, by_content=by_content
        )

    def __len__(self) -> int:
        """Number of batches."""
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Starts from the first image.

        Raises:
            InputError: an image cannot be read or transformed, or has another shape than the first; it names
                the image.
        """
        samples = self._samples()
        # track is a generator over a generator: both are closed here, by name, so that threads and bar end at
        # once and not when the garbage collector comes by.
        shown = track(samples, description=self._description, total=len(self.images), enabled=self.progress)
        try:
            first_shape: tuple[int, ...] | None = None
            for start in range(0, len(self.images), self.batch_size):
                batch = list(islice(shown, self.batch_size))
                for offset, (pixels, _) in enumerate(batch):
                    first_shape = first_shape or pixels.shape
                    self._check_shape(start + offset, pixels.shape, first_shape)
                yield _stack(batch)
            # Lets the progress display see the end of the samples, and say "done" instead of "stopped".
            next(shown, None)
        finally:
            shown.close()
            samples.close()

    def _samples(self) -> Generator[_Sample, None, None]:
        """Transformed images in order; at most `prefetch_images` are in work and not yet passed on."""
        indices = range(len(self.images))
        ahead = self._prefetch_images
        return worked_ahead(self._load, indices, workers=self._workers, ahead=ahead, name=_THREADS)

    def subset(
        self, indices: Sequence[int], *, batch_size: int | None = None, progress: bool = False
    ) -> DataLoader:
        """A loader of some of the images, in the order of `indices`, that shares everything else."""
        return DataLoader(
            self.images.subset(indices),
            self.pipeline,
            batch_size=batch_size or self.batch_size,
            workers=self._workers,
            description=self._description,
            progress=progress,
            exif_orientation=self.exif_orientation,
            store=self.store,
            by_content=self.by_content,
        )

    def load(self, batch: int, scratch: Scratch | None = None) -> Batch:
        """Batch number `batch`, from 0, made by the calling thread; any number of threads may call.

        Args:
            batch: which.
            scratch: memory for the images, which are then valid until it is used again. New memory costs as
                much as everything else together when the pixels come from the cache: the system hands it out
                in pages of 4 KiB, and clears each.

        Raises:
            InputError: as `__iter__`.
        """
        indices, prepared = self._indices(batch), self._prepared
        first = prepared.planes(indices[0])
        shape = self.pipeline.output_shape() or prepared.finish(indices[0], first).shape
        out = (scratch or Scratch()).array((len(indices), *shape))
        prepared.finish(indices[0], first, out[0])
        for place, index in enumerate(indices[1:], start=1):
            planes = prepared.planes(index)
            if planes.shape != first.shape:  # then the result's may differ too, and has no place
                self._check_shape(index, prepared.finish(index, planes).shape, shape)
            prepared.finish(index, planes, out[place])
        return out, self.labels(batch)

    def problems(self) -> dict[int, str]:
        """Which images cannot be used, by their position: why, one line without the path.

        Every image that is not in the store yet is decoded, and is in it afterwards. Runs in the loader's own
        number of threads, holds a few images at a time, and reports progress if this loader reports any.
        """
        pieces = (
            range(first, min(first + _CHECKED_TOGETHER, len(self.images)))
            for first in range(0, len(self.images), _CHECKED_TOGETHER)
        )
        ahead = 2 * self._workers
        steps = worked_ahead(self._problems_of, pieces, workers=self._workers, ahead=ahead, name=_THREADS)
        found: dict[int, str] = {}
        first: tuple[int, tuple[int, ...]] | None = None
        try:
            for _, problems, shapes in self.shown(steps, lambda piece: piece[0], "checking images"):
                found |= problems
                first = first or next(iter(shapes.items()), None)
                for index, shape in shapes.items():
                    if first is not None and shape != first[1]:
                        found[index] = self._other_shape(shape, *first)
        finally:
            steps.close()
        return found

    def _problems_of(self, indices: range) -> _Checked:
        told = {index: self._prepared.problem(index) for index in indices}
        shapes = {}
        if self.pipeline.output_shape() is None:  # then it is the images that decide it
            good = (index for index, problem in told.items() if not problem)
            shapes = {
                index: self._prepared.finish(index, self._prepared.planes(index)).shape for index in good
            }
        return len(indices), {index: problem for index, problem in told.items() if problem}, shapes

    def labels(self, batch: int) -> npt.NDArray[np.int64]:
        """The labels of a batch, without reading its images."""
        return np.array([self._prepared.label(index) for index in self._indices(batch)], np.int64)

    def batch_key(self, batch: int) -> str:
        """What identifies the content of a batch, labels aside: 64 hexadecimal digits.

        Raises:
            InputError: an image is not there.
        """
        return hashlib.sha256("".join(self.image_keys(batch)).encode()).hexdigest()

    def image_keys(self, batch: int) -> list[str]:
        """The same of each image in it; raises as `batch_key`."""
        return [self._prepared.key(index) for index in self._indices(batch)]

    def shown(
        self, passed: Iterable[T], image_count: Callable[[T], int], description: str | None = None
    ) -> Generator[T, None, None]:
        """Passes on what is made of the batches, and reports the progress if this loader reports any."""
        return track(
            passed,
            description=description or self._description,
            total=len(self.images),
            enabled=self.progress,
            count=image_count,
        )

    def _indices(self, batch: int) -> range:
        start = batch * self.batch_size
        return range(start, min(start + self.batch_size, len(self.images)))

    def _load(self, index: int) -> _Sample:
        one = self._prepared
        return one.finish(index, one.planes(index)), one.label(index)

    def _check_shape(self, index: int, shape: tuple[int, ...], first_shape: tuple[int, ...]) -> None:
        if shape != first_shape:
            raise InputError(f"{self.images.path(index)}: {self._other_shape(shape, 0, first_shape)}")

    def _other_shape(self, shape: tuple[int, ...], first: int, first_shape: tuple[int, ...]) -> str:
        return (
            f"comes out of the transforms as {list(shape)}, but {self.images.path(first)} as "
            f"{list(first_shape)}: add CenterCrop or Resize"
        )


def _stack(batch: list[_Sample]) -> Batch:
    labels = np.array([label for _, label in batch], np.int64)
    if len(batch) == 1:
        # A view: nothing else holds the array.
        return batch[0][0][np.newaxis], labels
    return np.stack([pixels for pixels, _ in batch]), labels


def _check_float32(pipeline: Pipeline) -> None:
    dtype = pipeline.output_spec().dtype
    if dtype != np.float32:
        raise InputError(
            f"transforms end in {dtype.name}, not in the float32 of the model: add Rescale or Cast"
        )


def _default_workers() -> int:
    # The cores that we may run on; containers often allow fewer than the machine has.
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MAX_DEFAULT_WORKERS)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} is {value}: give 1 or more")
    return value
