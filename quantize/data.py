"""From the configuration to two dataloaders: images to calibrate on, and others to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.store import Store
from calibration.transforms import Pipeline, build_pipeline
from quantize.config import Config, DataSource
from quantize.config.data import Dataloader
from quantize.errors import InputError, quoted
from quantize.model import Signature
from quantize.selection import Selection, read_images, select_images, shortage
from quantize.soundness import NOT_CHECKED, Soundness, sound

# Measured with MobileNetV2 in single-threaded sessions: images per second are within 3 % of each other from 2
# to 10 images a call, 5 to 10 % lower with 1 and with 20; memory grows with it.
_LARGEST_PIECE = 4

FloatBatch = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Data:
    """The images of one run.

    Attributes:
        calibration, evaluation: what ranges are measured on, and what accuracy is measured on.
        judging: what chooses between refined variants, in neither of the two; None without refinement.
        overlap_images: how many images are in both.
        warnings: what a reader of the report should know about them.
        soundness: which images were looked at, and which of them were left out because they cannot be used.
    """

    calibration: DataLoader
    judging: DataLoader | None
    evaluation: DataLoader
    overlap_images: int
    warnings: tuple[str, ...]
    soundness: Soundness = NOT_CHECKED


@dataclass(frozen=True)
class EvaluationData:
    """The evaluation images alone; attributes as in `Data`, `loader` being its `evaluation`."""

    loader: DataLoader
    warnings: tuple[str, ...]
    soundness: Soundness


def load_data(config: Config, signature: Signature, *, progress: bool, store: Store | None = None) -> Data:
    """Makes both dataloaders, of the images that `select_images` chooses, and looks at every image.

    Raises:
        InputError: images or labels are wrong, too few, or do not fit the model, or some cannot be used.
    """
    return check_data(list_data(config, signature, progress=progress, store=store), config, signature)


def check_data(data: Data, config: Config, signature: Signature, *, only_calibration: bool = False) -> Data:
    """The same without the images that cannot be used.

    Args:
        data: from `list_data`.
        config: what it was listed by.
        signature: of the model.
        only_calibration: look at these only, because no others will be used.

    Raises:
        InputError: there are some and the configuration does not allow them, or images do not fit the model.
    """
    roles = {"calibration": data.calibration}
    if not only_calibration:
        roles["evaluation"] = data.evaluation
        if data.judging is not None:
            roles["selection"] = data.judging
    left, found = sound(roles, skip=config.settings.images.on_bad_image == "skip")
    for loader in left.values():
        _check_shape(loader, signature)
    return replace(
        data,
        calibration=left["calibration"],
        judging=left.get("selection", data.judging),
        evaluation=left.get("evaluation", data.evaluation),
        warnings=(*data.warnings, *found.warnings),
        soundness=found,
    )


def list_data(config: Config, signature: Signature, *, progress: bool, store: Store | None = None) -> Data:
    """What `load_data` gives, before any image was opened; raises as it does."""
    selected = select_images(config)
    sections = (config.quantization.calibration.dataloader, config.evaluation.accuracy.dataloader)
    make = _LoaderMaker(config, signature, store)
    return Data(
        make(selected.calibration, config.calibration_data(), "measuring ranges", progress=progress),
        None
        if selected.judging is None
        else make(selected.judging, config.calibration_data(), "selection images", progress=False),
        make.pieces(selected.evaluation, config.evaluation_data(), "evaluating", progress=progress),
        selected.overlap_images,
        (
            *shortage("calibration", _calibration_images(selected), config.calibration_count),
            *selected.warnings,
            *_unused_batch_sizes(signature, *sections),
        ),
    )


def _calibration_images(selected: Selection) -> int:
    """Images that calibration got, those that it holds back for choosing included."""
    return len(selected.calibration) + (0 if selected.judging is None else len(selected.judging))


def evaluation_data(
    config: Config, signature: Signature, *, progress: bool, store: Store | None = None
) -> EvaluationData:
    """The images that `load_data` gives for evaluation, so that figures of both can be compared.

    Raises:
        InputError: as `load_data`.
    """
    selected = select_images(config)
    make = _LoaderMaker(config, signature, store)
    loader = make.pieces(selected.evaluation, config.evaluation_data(), "evaluating", progress=progress)
    left, found = sound({"evaluation": loader}, skip=config.settings.images.on_bad_image == "skip")
    _check_shape(left["evaluation"], signature)
    unused = _unused_batch_sizes(signature, config.evaluation.accuracy.dataloader)
    return EvaluationData(left["evaluation"], (*selected.warnings, *unused, *found.warnings), found)


def performance_batch(config: Config, signature: Signature) -> tuple[FloatBatch, tuple[str, ...]]:
    """The first batch of the images for speed, images repeated where they run out.

    Returns:
        Images, [batch size, ...] float32, and warnings about them.

    Raises:
        InputError: as `load_data`.
    """
    source = config.performance_data()
    size = signature.batch or source.batch_size
    images = read_images(source)
    first = images.subset(range(min(size, len(images))))
    loader = _LoaderMaker(config, signature)(first, source, "images", progress=False)
    _check_shape(loader, signature)
    made = np.concatenate([batch for batch, _ in loader])
    batch: FloatBatch = made[np.arange(size) % len(made)]
    return batch, _unused_batch_sizes(signature, config.evaluation.performance.dataloader)


@dataclass(frozen=True)
class _LoaderMaker:
    """Makes dataloaders for one model, and checks that what they load fits it."""

    config: Config
    signature: Signature
    store: Store | None = None

    def pieces(self, images: ImageSet, source: DataSource, what: str, *, progress: bool) -> DataLoader:
        """A loader for `evaluate`, whose workers are best kept busy with small batches."""
        size = min(source.batch_size, _LARGEST_PIECE)
        return self(images, replace(source, batch_size=size), what, progress=progress)

    def __call__(self, images: ImageSet, source: DataSource, what: str, *, progress: bool) -> DataLoader:
        pipeline = build_pipeline(source.transform)
        _check_labels(images, pipeline, self.signature)
        return DataLoader(
            images,
            pipeline,
            batch_size=self.signature.batch or source.batch_size,
            # What was asked for, and otherwise the loader's own measure of the machine.
            workers=self.config.settings.threads,
            description=what,
            progress=progress,
            exif_orientation=source.exif_orientation,
            store=self.store,
            by_content=self.config.settings.cache.by_content,
        )


def _check_shape(loader: DataLoader, signature: Signature) -> None:
    """What the transforms make, of any image or else of the first one, must be what the model takes."""
    made: tuple[int, ...] | None = loader.pipeline.output_shape()
    of_what = ""
    if made is None:
        made, of_what = _first_shape(loader), f" of {loader.images.path(0)}"
    wanted = signature.input_shape[1:]
    if any(extent not in (None, given) for extent, given in zip(wanted, made, strict=True)):
        text = "x".join("?" if extent is None else str(extent) for extent in wanted)
        raise InputError(
            f"transform: makes {'x'.join(map(str, made))}{of_what}, but the model's input "
            f"{signature.input_name!r} takes {text}; change CenterCrop, Resize or Transpose"
        )


def _first_shape(loader: DataLoader) -> tuple[int, ...]:
    """Shape of the first image behind the transforms, without the batch."""
    return loader.subset([0]).load(0)[0].shape[1:]


def _check_labels(images: ImageSet, pipeline: Pipeline, signature: Signature) -> None:
    """The largest label, shifted as the transforms shift it, must be a class of the model."""
    if signature.classes is None:
        return
    shift = sum(int(getattr(step, "label_shift", 0)) for step in pipeline.steps)
    low, high = min(images.labels) - shift, max(images.labels) - shift
    if low < 0 or high >= signature.classes:
        wrong = low if low < 0 else high
        name = images.files[images.labels.index(wrong + shift)]
        raise InputError(
            f"labels run from {low} to {high}, but the model has {signature.classes} classes (0 to "
            f"{signature.classes - 1}): {quoted(name)} of the {images.source} has {wrong}; check it, or add "
            "LabelShift to the transforms"
        )


def _unused_batch_sizes(signature: Signature, *sections: Dataloader) -> tuple[str, ...]:
    """The warning that the model's own batch size wins; none where no other was given."""
    given = (section.batch_size for section in sections if "batch_size" in section.model_fields_set)
    unused = sorted({size for size in given if signature.batch not in (None, size)})
    if not unused:
        return ()
    sizes = " and ".join(map(str, unused))
    verb = "is" if len(unused) == 1 else "are"
    return (f"the model takes batches of {signature.batch}; batch_size {sizes} {verb} not used",)
