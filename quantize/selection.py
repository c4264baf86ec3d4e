"""Which images are calibrated on, and which others are judged."""

from __future__ import annotations

import os
from dataclasses import dataclass

from calibration.images import ImageSet, read_class_folders, read_image_list
from calibration.split import split
from quantize.config import Config, DataSource
from quantize.errors import InputError

# Of the images that could also be judged on, at most one in so many chooses between variants.
_JUDGING_SHARE = 4

# With fewer, the choice would be a matter of luck.
_FEWEST_JUDGING = 8


@dataclass(frozen=True)
class Selection:
    """The images of all sides.

    Attributes:
        calibration, evaluation: what ranges are measured on, and what accuracy is measured on.
        judging: what chooses between variants of the integer model, in neither of the two; None where nothing
            has to be chosen.
        overlap_images: how many images are in both; 0 unless the configuration allows it.
        warnings: what a reader of the accuracy should know about the evaluation images.
    """

    calibration: ImageSet
    judging: ImageSet | None
    evaluation: ImageSet
    overlap_images: int
    warnings: tuple[str, ...]


def select_images(config: Config) -> Selection:
    """Chooses the images of both sides, so that none is in both unless the configuration allows it.

    When both sides name the same images, they share them out: a seeded split. When they name different ones,
    the calibration images are a seeded choice of theirs, and the files among the others that they are, links
    followed, are left out of the judging. The images that choose between variants come from where the
    calibration images come from, and are at most a quarter of what those leave; where that is hardly any, a
    quarter of the calibration images is held back for it.

    Raises:
        InputError: a path, a list or a label is wrong, or too few images are there.
    """
    calibration, evaluation = config.calibration_data(), config.evaluation_data()
    overlapping = config.quantization.calibration.allow_overlap
    if _same_images(calibration, evaluation) and not overlapping:
        both = read_images(calibration)
        wanted = config.evaluation_count
        spare = len(both) - config.calibration_count - (wanted or 0)
        extra = _judging_count(config, spare if wanted is not None else spare // _JUDGING_SHARE)
        halves = split(both, config.calibration_count + extra, wanted, config.seed)
        learnt, judging = _held_back(halves.calibration, extra, config)
        return Selection(learnt, judging, halves.evaluation, 0, ())
    source = read_images(calibration)
    extra = _judging_count(config, (len(source) - config.calibration_count) // _JUDGING_SHARE)
    used = _limited(source, config.calibration_count + extra, config.seed)
    chosen, judging = _held_back(used, extra, config)
    there = read_images(evaluation)
    free = there if overlapping else _others(there, used)
    judged = _limited(free, config.evaluation_count, config.seed)
    overlap = used.overlap(judged) if overlapping else 0
    warnings = [
        *_left_out(len(there) - len(free)),
        *shortage("evaluation", len(judged), config.evaluation_count),
    ]
    if overlap:
        warnings.append(
            f"{overlap} of {len(judged)} evaluation images were calibrated on too, which flatters accuracy"
        )
    return Selection(chosen, judging, judged, overlap, tuple(warnings))


def _judging_count(config: Config, spare: int) -> int:
    """How many images beyond those for calibration choose between variants; 0 where too few are there."""
    count = min(config.selection_count, max(spare, 0))
    return count if count >= min(_FEWEST_JUDGING, config.selection_count) else 0


def _held_back(used: ImageSet, extra: int, config: Config) -> tuple[ImageSet, ImageSet | None]:
    """The images to calibrate on, and those that choose between variants."""
    count = extra or min(len(used) // _JUDGING_SHARE, config.selection_count)
    if not count:
        return used, None
    halves = split(used, len(used) - count, None, config.seed)
    return halves.calibration, halves.evaluation


def read_images(source: DataSource) -> ImageSet:
    """Lists the images of a source.

    Raises:
        InputError: a path, a list or a label is wrong.
    """
    if source.kind == "ImagenetRaw":
        return read_image_list(
            source.data_path,
            source.image_list,
            follow_links=source.follow_links,
            all_present=not source.skip_bad,
        )
    return read_class_folders(source.data_path, source.synset, follow_links=source.follow_links)


def shortage(kind: str, count: int, wanted: int | None) -> list[str]:
    """The warning that fewer images are there than were asked for; none if there are enough."""
    if wanted is None or count >= wanted:
        return []
    return [f"only {count} {kind} images are there; {wanted} were asked for"]


def _same_images(one: DataSource, other: DataSource) -> bool:
    # Not Path.resolve, which raises where links lead in a circle; reading the images says so of the folder.
    return (one.kind, os.path.realpath(one.data_path), one.image_list) == (
        other.kind,
        os.path.realpath(other.data_path),
        other.image_list,
    )


def _limited(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """A seeded choice of `count` images, spread over the classes; all of them where there are not more."""
    if count is None or count >= len(images):
        return images
    return split(images, count, None, seed).calibration


def _others(images: ImageSet, chosen: ImageSet) -> ImageSet:
    """Those of `images` that are not calibrated on."""
    others = images.without(chosen)
    if not len(others):
        raise InputError(
            f"{images.source}: all {len(images)} evaluation images are calibrated on, which leaves none to "
            "judge; give other images, fewer --calibration_samples, or --allow_overlap"
        )
    return others


def _left_out(count: int) -> list[str]:
    if not count:
        return []
    subject = "image is calibrated on; it is" if count == 1 else "images are calibrated on; they are"
    return [f"{count} evaluation {subject} left out of the judging"]
