"""From the configuration to two dataloaders: images to calibrate on, and others to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.dataloader import DataLoader
from calibration.images import ImageSet, read_class_folders, read_image_list
from calibration.split import split
from calibration.transforms import Pipeline, build_pipeline
from quantize.config import Config, DataSource
from quantize.errors import InputError
from quantize.model import Signature

FloatBatch = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Data:
    """The images of one run.

    Attributes:
        calibration, evaluation: what ranges are measured on, and what accuracy is measured on.
        overlap_images: how many images are in both.
        warnings: what a reader of the report should know about them.
    """

    calibration: DataLoader
    evaluation: DataLoader
    overlap_images: int
    warnings: tuple[str, ...]


def read_images(source: DataSource) -> ImageSet:
    """Lists the images of a source.

    Raises:
        InputError: a path, a list or a label is wrong.
    """
    if source.kind == "ImagenetRaw":
        return read_image_list(source.data_path, source.image_list)
    return read_class_folders(source.data_path, source.synset)


def load_data(config: Config, signature: Signature, *, progress: bool) -> Data:
    """Makes both dataloaders.

    When both sides name the same images, they share them out: a seeded split, disjoint. When they name
    different ones, the calibration images are a seeded choice of theirs.

    Raises:
        InputError: images or labels are wrong, too few, or do not fit the model.
    """
    calibration, evaluation = config.calibration_data(), config.evaluation_data()
    chosen, judged, warnings = _choose(config, calibration, evaluation)
    overlap = chosen.overlap(judged)
    if overlap:
        warnings.append(
            f"{overlap} of {len(judged)} evaluation images were calibrated on too, which flatters accuracy"
        )
    return Data(
        _loader(chosen, calibration, signature, "calibration images", progress=False),
        _loader(judged, evaluation, signature, "evaluating", progress=progress),
        overlap,
        tuple(warnings),
    )


def evaluation_loader(config: Config, signature: Signature, *, progress: bool) -> DataLoader:
    """The images that `load_data` gives for evaluation, so that figures of both can be compared.

    Raises:
        InputError: as `load_data`.
    """
    source = config.evaluation_data()
    _, images, _ = _choose(config, config.calibration_data(), source)
    return _loader(images, source, signature, "evaluating", progress=progress)


def _choose(
    config: Config, calibration: DataSource, evaluation: DataSource
) -> tuple[ImageSet, ImageSet, list[str]]:
    wanted, judged_count = config.calibration_count, config.evaluation_count
    overlapping = config.quantization.calibration.allow_overlap
    if _same_images(calibration, evaluation) and not overlapping:
        halves = split(read_images(calibration), wanted, judged_count, config.seed)
        return halves.calibration, halves.evaluation, []
    images = read_images(calibration)
    warnings = []
    if len(images) < wanted:
        warnings.append(f"only {len(images)} calibration images are there; {wanted} were asked for")
    judged = _limited(read_images(evaluation), judged_count, config.seed)
    return _limited(images, wanted, config.seed), judged, warnings


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


def _loader(
    images: ImageSet, source: DataSource, signature: Signature, what: str, *, progress: bool
) -> DataLoader:
    pipeline = build_pipeline(source.transform)
    _check_shape(pipeline, signature)
    _check_labels(images, pipeline, signature)
    return DataLoader(
        images,
        pipeline,
        batch_size=signature.batch or source.batch_size,
        description=what,
        progress=progress,
        exif_orientation=source.exif_orientation,
    )


def _check_shape(pipeline: Pipeline, signature: Signature) -> None:
    """What the transforms make must be what the model takes, where both are known."""
    made = pipeline.output_shape()
    if made is None:
        return
    wanted = signature.input_shape[1:]
    if any(extent not in (None, given) for extent, given in zip(wanted, made, strict=True)):
        text = "x".join("?" if extent is None else str(extent) for extent in wanted)
        raise InputError(
            f"transform: makes {'x'.join(map(str, made))}, but the model's input "
            f"{signature.input_name!r} takes {text}; change CenterCrop, Resize or Transpose"
        )


def _check_labels(images: ImageSet, pipeline: Pipeline, signature: Signature) -> None:
    """The largest label, shifted as the transforms shift it, must be a class of the model."""
    if signature.classes is None:
        return
    shift = sum(int(getattr(step, "label_shift", 0)) for step in pipeline.steps)
    low, high = min(images.labels) - shift, max(images.labels) - shift
    if low < 0 or high >= signature.classes:
        raise InputError(
            f"labels run from {low} to {high}, but the model has {signature.classes} classes (0 to "
            f"{signature.classes - 1}); check the image list, or add LabelShift to the transforms"
        )


def performance_batch(config: Config, signature: Signature) -> FloatBatch:
    """The first batch of the images for speed, [batch size, ...] float32, images repeated where they run out.

    Raises:
        InputError: as `load_data`.
    """
    source = config.performance_data()
    size = signature.batch or source.batch_size
    images = read_images(source)
    first = images.subset(range(min(size, len(images))))
    made = np.concatenate([batch for batch, _ in _loader(first, source, signature, "images", progress=False)])
    batch: FloatBatch = made[np.arange(size) % len(made)]
    return batch
