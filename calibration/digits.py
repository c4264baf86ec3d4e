"""The bundled example's task: handwritten digits, drawn as small colour pictures.

The strokes are the 1,797 scanned digits that ship inside scikit-learn (8x8, 17 grey levels). Each is
enlarged, moved, tinted and made noisy into a 64x64 RGB picture, so that a network for colour images has
something to do.
``examples/digits/train.py`` trains on pictures made by :func:`render_digit` too, and only of digits that
:func:`split_digits` puts on the training side.

Pixels are a function of the strokes and the seed alone: the generator is numpy's frozen legacy stream
(NEP 19), everything after it is integer arithmetic, and Pillow enlarges 8-bit images in fixed point.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from calibration.errors import InputError

IMAGE_SIZE = 64
CLASS_COUNT = 10
DIGIT_COUNT = 1797
TRAINING_COUNT = 1000
HELD_OUT_COUNT = DIGIT_COUNT - TRAINING_COUNT
SPLIT_SEED = 20211231  # any number, but for good: another split voids the committed networks' accuracies

_STROKE_LEVELS = 16  # scikit-learn's strokes count the inked pixels of a 4x4 block: 0..16
_DIGIT_SIDE = (42, 60)  # side of the enlarged digit in pixels, of 64
_MIN_CONTRAST = 40  # of 255 between ink and ground, so that a person can read every picture
_MAX_RAMP = 40  # of 255 from the middle to the edge: uneven lighting of the ground
_MAX_NOISE = 28  # of 255: half width of each of the two uniform terms, so at most 23 rms
_LUMA = np.array([77, 150, 29], dtype=np.int64)  # ITU-R BT.601 weights times 256

UInt8Image = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def render_digit(pixels: npt.ArrayLike, seed: int) -> UInt8Image:
    """Draw one digit as a colour picture.

    Args:
        pixels: strokes, ``[8, 8]``, integer or float, 0 (paper) to 16 (ink).
        seed: 0 to 2**32 - 1; decides size, place, colours, lighting and noise.

    Returns:
        ``uint8 [64, 64, 3]``, RGB.

    Raises:
        ValueError: the strokes have another shape or leave 0..16.
    """
    strokes = np.asarray(pixels, dtype=np.float64)
    if strokes.shape != (8, 8):
        raise ValueError(f"strokes: expected shape (8, 8), got {strokes.shape}")
    if not np.all((strokes >= 0) & (strokes <= _STROKE_LEVELS)):
        raise ValueError(f"strokes: expected values in 0..{_STROKE_LEVELS}")
    random = np.random.RandomState(seed)
    ink = _place(strokes, random)[:, :, None]
    ground, ink_colour = _colours(random)
    picture = (ink * ink_colour + (255 - ink) * ground + 127) // 255 + _noise(random)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _place(strokes: npt.NDArray[np.float64], random: np.random.RandomState) -> npt.NDArray[np.int64]:
    """Coverage of the canvas by ink, ``int64 [64, 64]`` in 0..255, at a random size and place."""
    grey = np.rint(strokes * (255 / _STROKE_LEVELS)).astype(np.uint8)
    width, height = (int(v) for v in random.randint(_DIGIT_SIDE[0], _DIGIT_SIDE[1] + 1, 2))
    left, top = (int(random.randint(0, IMAGE_SIZE - side + 1)) for side in (width, height))
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
    canvas.paste(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC), (left, top))
    return np.asarray(canvas, dtype=np.int64)


def _colours(random: np.random.RandomState) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Unevenly lit ground ``int64 [64, 64, 3]`` in a light colour, and a dark ink colour ``int64 [3]``."""
    base, ink_colour = random.randint(128, 256, 3), random.randint(0, 128, 3)
    while int((base - ink_colour) @ _LUMA) < _MIN_CONTRAST * 256:
        base, ink_colour = random.randint(128, 256, 3), random.randint(0, 128, 3)
    centred = np.arange(IMAGE_SIZE, dtype=np.int64) - IMAGE_SIZE // 2
    across, down = random.randint(-_MAX_RAMP, _MAX_RAMP + 1, 2)
    ramp = (centred[None, :] * across + centred[:, None] * down) // (IMAGE_SIZE // 2)
    return base.astype(np.int64) + ramp[:, :, None], ink_colour.astype(np.int64)


def _noise(random: np.random.RandomState) -> npt.NDArray[np.int64]:
    """Triangular sensor noise, ``int64 [64, 64, 3]``: needs no function that rounds differently elsewhere."""
    half_width = int(random.randint(0, _MAX_NOISE + 1))
    terms = random.randint(-half_width, half_width + 1, (2, IMAGE_SIZE, IMAGE_SIZE, 3), np.int8)
    noise: npt.NDArray[np.int64] = terms.sum(axis=0, dtype=np.int64)
    return noise


@lru_cache(maxsize=1)
def load_strokes() -> tuple[npt.NDArray[np.float64], Indices]:
    """The digits of scikit-learn: strokes ``float64 [1797, 8, 8]`` in 0..16, and labels ``int64 [1797]``.

    Raises:
        InputError: scikit-learn is missing, or ships other digits than those the split was made for.
    """
    try:
        from sklearn.datasets import load_digits  # over a second to import: only when pictures are made
    except ImportError as error:
        raise InputError("the bundled example needs scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    labels = np.asarray(digits.target, dtype=np.int64)
    if labels.shape != (DIGIT_COUNT,):
        raise InputError(
            f"scikit-learn's load_digits gives {labels.size} digits instead of {DIGIT_COUNT}:"
            " install a release from 1.0 on"
        )
    strokes = np.array(digits.images, dtype=np.float64)
    strokes.flags.writeable = labels.flags.writeable = False  # the cache hands out the same arrays every time
    return strokes, labels


def split_digits(labels: npt.ArrayLike) -> tuple[Indices, Indices]:
    """Which digits the bundled networks learn from, and which only ever measure them.

    Args:
        labels: ``int [1797]``, in scikit-learn's order.

    Returns:
        Sorted indices of the 1,000 training and the 797 held-out digits; every class is divided alike.
    """
    every = np.arange(np.asarray(labels).size, dtype=np.int64)
    training = stratified_subset(labels, every, TRAINING_COUNT, SPLIT_SEED)
    return training, np.setdiff1d(every, training, assume_unique=True)


def stratified_subset(labels: npt.ArrayLike, among: Indices, count: int, seed: int) -> Indices:
    """Choose ``count`` of the indices ``among`` so that every class keeps its share, within one.

    Shares are rounded by largest remainder, ties going to the lower class.

    Args:
        labels: ``int [N]``, the class of every digit.
        among: ``int64 [M]``, indices to choose from.
        count: how many, at most M.
        seed: decides which ones.

    Returns:
        ``int64 [count]``, sorted.
    """
    classes = np.asarray(labels)[among]
    names, sizes = np.unique(classes, return_counts=True)
    quotas, remainders = np.divmod(sizes * count, among.size)
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    random = np.random.RandomState(seed)
    chosen = [
        random.permutation(among[classes == name])[:quota] for name, quota in zip(names, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
