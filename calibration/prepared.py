"""The images of a set behind the transforms, one by one: from the cache, or else from their files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from calibration.cache import PixelCache, image_key
from calibration.decode import load_image
from calibration.errors import InputError
from calibration.imageset import ImageSet
from calibration.store import Store
from calibration.transforms.pipeline import Pipeline
from calibration.transforms.stages import Planes, cut


class Prepared:
    """Any number of threads may ask for any image; errors name the image.

    Args:
        images: the image set.
        pipeline: the transforms.
        exif_orientation: see `load_image`.
        store: where decoded pixels are kept; None decodes whenever asked.
        by_content: tell images apart by their content too, not only by path, size and times.
    """

    def __init__(
        self,
        images: ImageSet,
        pipeline: Pipeline,
        *,
        exif_orientation: bool,
        store: Store | None,
        by_content: bool,
    ) -> None:
        self._images, self._exif_orientation, self._by_content = images, exif_orientation, by_content
        self._stages = cut(pipeline)
        self._context = json.dumps([exif_orientation, pipeline.to_json()])
        self._cache: PixelCache | None = None
        if store is not None:
            self._cache = PixelCache(
                store, self._stages.geometry, exif_orientation=exif_orientation, by_content=by_content
            )

    def key(self, index: int) -> str:
        """What identifies what the pipeline makes of an image: 64 hexadecimal digits."""
        return image_key(self._images.path(index), self._context, by_content=self._by_content)

    def planes(self, index: int) -> Planes:
        """Pixels behind the geometric transforms, uint8 [3, H, W]; perhaps read-only."""
        path = self._images.path(index)
        if self._cache is None:
            return self._decoded(path)
        key = self._cache.key(path)
        planes = self._cache.get(key)
        if planes is None:
            planes = self._decoded(path)
            self._cache.put(key, path, planes)
        return planes

    def finish(self, index: int, planes: Planes, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """What all other transforms make of `planes`, in `out` if that is given."""
        with _naming(self._images.path(index)):
            return self._stages.finish(planes, out)

    def label(self, index: int) -> int:
        """The image's label, shifted as the transforms say."""
        with _naming(self._images.path(index)):
            return self._stages.label(self._images.labels[index])

    def _decoded(self, path: Path) -> Planes:
        image = load_image(path, exif_orientation=self._exif_orientation)
        with _naming(path):
            return self._stages.planes(image)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ImportError, MemoryError):  # nothing that the image could help
        raise
    except Exception as error:
        # OpenCV and numpy report what they cannot do with this image in their own types.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be transformed: {reason}") from error
