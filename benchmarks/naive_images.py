"""Images as the examples of quantization tools read them: a Python loop, one image at a time, each pass anew.

The preprocessing is the Model Zoo's, as in `configs/mobilenetv2.yaml`, so that all contenders are judged on
the same pixels; the arithmetic is what such examples write, float64 included.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

_SHORT_SIDE, _CROP = 256, 224
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])


class NaiveLoader:
    """Re-iterable over `(image [1,3,224,224] float32, label)`.

    Attributes:
        batch_size: 1; quantization engines ask for it.
        decoded_count: images decoded so far, over all passes.
    """

    def __init__(self, folder: Path, image_list: Path, limit: int | None = None) -> None:
        lines = [line.rsplit(maxsplit=1) for line in image_list.read_text(encoding="utf-8").splitlines()]
        self._items = [(folder / name, int(label)) for name, label in lines][:limit]
        self.batch_size = 1
        self.decoded_count = 0

    def __len__(self) -> int:
        """Number of images."""
        return len(self._items)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Decodes the files again, from the first one on."""
        for path, label in self._items:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            self.decoded_count += 1
            yield _prepared(image), label


def _prepared(image: Image.Image) -> npt.NDArray[np.float32]:
    """Shorter side to 256, centre crop, `(x/255 - mean)/std`, channels first."""
    scale = _SHORT_SIDE / min(image.size)
    size = (max(_SHORT_SIDE, int(image.width * scale)), max(_SHORT_SIDE, int(image.height * scale)))
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (resized.width - _CROP) // 2, (resized.height - _CROP) // 2
    pixels = np.asarray(resized.crop((left, top, left + _CROP, top + _CROP)))
    normalized = (pixels / 255.0 - _MEAN) / _STD
    made: npt.NDArray[np.float32] = normalized.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return made
