"""Which images are calibrated on, and which others are judged."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.images import ImageSet, read_class_folders, read_image_list
from calibration.split import split
from quantize.config import Config, DataSource
from quantize.errors import InputError


@dataclass(frozen=True)
class Selection:
    """The images of both sides.

    Attributes:
        calibration, evaluation: what ranges are measured on, and what accuracy is measured on.
        overlap_images: how many images are in both; 0 unless the configuration allows it.
        warnings: what a reader of the accuracy should know about the evaluation images.
    """

    calibration: ImageSet
    evaluation: ImageSet
    overlap_images: int
    warnings: tuple[str, ...]


def select_images(config: Config) -> Selection:
    """Chooses the images of both sides, so that none is in both unless the configuration allows it.

    When both sides name the same images, they share them out: a seeded split. When they name different ones,
    the calibration images are a seeded choice of theirs, and the files among the others that they are, links
    followed, are left out of the judging.

    Raises:
        InputError: a path, a list or a label is wrong, or too few images are there.
    """
    calibration, evaluation = config.calibration_data(), config.evaluation_data()
    overlapping = config.quantization.calibration.allow_overlap
    if _same_images(calibration, evaluation) and not overlapping:
        both = read_images(calibration)
        halves = split(both, config.calibration_count, config.evaluation_count, config.seed)
        return Selection(halves.calibration, halves.evaluation, 0, ())
    chosen = _limited(read_images(calibration), config.calibration_count, config.seed)
    there = read_images(evaluation)
    free = there if overlapping else _others(there, chosen)
    judged = _limited(free, config.evaluation_count, config.seed)
    overlap = chosen.overlap(judged) if overlapping else 0
    warnings = [
        *_left_out(len(there) - len(free)),
        *shortage("evaluation", len(judged), config.evaluation_count),
    ]
    if overlap:
        warnings.append(
            f"{overlap} of {len(judged)} evaluation images were calibrated on too, which flatters accuracy"
        )
    return Selection(chosen, judged, overlap, tuple(warnings))


def read_images(source: DataSource) -> ImageSet:
    """Lists the images of a source.

    Raises:
        InputError: a path, a list or a label is wrong.
    """
    if source.kind == "ImagenetRaw":
        return read_image_list(source.data_path, source.image_list)
    return read_class_folders(source.data_path, source.synset)


def shortage(kind: str, count: int, wanted: int | None) -> list[str]:
    """The warning that fewer images are there than were asked for; none if there are enough."""
    if wanted is None or count >= wanted:
        return []
    return [f"only {count} {kind} images are there; {wanted} were asked for"]


def _same_images(one: DataSource, other: DataSource) -> bool:
    return (one.kind, one.data_path.resolve(), one.image_list) == (
        other.kind,
        other.data_path.resolve(),
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
