"""Disjoint calibration and evaluation images from one set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from calibration.errors import InputError
from calibration.imageset import ImageSet


@dataclass(frozen=True, eq=False)
class Split:
    """Two subsets of one image set that share no file, each in the order of the file names."""

    calibration: ImageSet
    evaluation: ImageSet


def split(images: ImageSet, calibration_count: int, evaluation_count: int | None, seed: int) -> Split:
    """Picks calibration images, and evaluation images from what is left.

    Both depend on names, labels and `seed` alone, not on the order of the set.

    Calibration images are spread over the classes as evenly as the set allows: within each class they are
    shuffled, and then taken in rounds, one of each class (classes in shuffled order), so no class gives a
    second image before every class has given one. Ranges are wanted for all kinds of images, not for the most
    frequent kind.

    Evaluation images are a plain random sample of the rest, or all of it: what is measured must have the
    proportions of the data, or it would be the accuracy on another population.

    Args:
        images: the images to choose from.
        calibration_count: how many calibration images, at least 1.
        evaluation_count: how many evaluation images, at least 1; None for all that are left.
        seed: of numpy's PCG64, 0 or more.

    Raises:
        InputError: a count is less than 1, or there are too few images.
    """
    _check_counts(images, calibration_count, evaluation_count, seed)
    by_name = sorted(range(len(images)), key=lambda i: images.files[i])
    bits = np.random.PCG64(seed)
    calibration = set(_in_rounds(by_name, images.labels, bits)[:calibration_count])
    rest = [i for i in by_name if i not in calibration]
    if evaluation_count is not None:
        chosen = set(_shuffled(rest, bits)[:evaluation_count])
        rest = [i for i in rest if i in chosen]
    return Split(
        calibration=images.subset([i for i in by_name if i in calibration]),
        evaluation=images.subset(rest),
    )


def _in_rounds(indices: list[int], labels: tuple[int, ...], bits: np.random.PCG64) -> list[int]:
    """All `indices`: first one of each class, then a second one of each class that has two, and so on."""
    of_class: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        of_class[labels[index]].append(index)
    keyed: list[tuple[int, int, int]] = []
    for place, label in enumerate(_shuffled(sorted(of_class), bits)):
        members = _shuffled(of_class[label], bits)
        keyed += [(turn, place, index) for turn, index in enumerate(members)]
    return [index for _, _, index in sorted(keyed)]


def _shuffled(items: list[int], bits: np.random.PCG64) -> list[int]:
    """`items` in the order of 64-bit random keys.

    numpy promises the raw stream of PCG64 for good, but not what Generator.permutation makes of it; a seed in
    a report must pick the same images with any numpy.
    """
    keys = bits.random_raw(len(items)).tolist()
    return [item for _, item in sorted(zip(keys, items, strict=True))]


def _check_counts(images: ImageSet, calibration_count: int, evaluation_count: int | None, seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}: give 0 or more")
    for name, count in (("calibration", calibration_count), ("evaluation", evaluation_count)):
        if count is not None and count < 1:
            raise InputError(f"number of {name} images is {count}: give at least 1")
    wanted = calibration_count + (1 if evaluation_count is None else evaluation_count)
    if wanted > len(images):
        evaluation = "at least 1" if evaluation_count is None else str(evaluation_count)
        raise InputError(
            f"{images.source} has {len(images)} images, too few for {calibration_count} to calibrate "
            f"and {evaluation} to evaluate, none in both: ask for fewer, or add images"
        )
