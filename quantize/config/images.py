"""Which images each task uses, after defaults, fallbacks and placeholders."""

from __future__ import annotations

from pathlib import Path

from quantize.config.data import ClassFolders, Dataloader, ListedImages
from quantize.config.document import Document
from quantize.config.paths import is_placeholder
from quantize.config.schema import Settings
from quantize.config.source import DataSource
from quantize.config.transforms import check_transforms as check_transforms_of
from quantize.errors import InputError

__all__ = ["ACCURACY", "CALIBRATION", "PERFORMANCE", "check_transforms", "placeholder_fields", "source"]

CALIBRATION = "quantization.calibration.dataloader"
ACCURACY = "evaluation.accuracy.dataloader"
PERFORMANCE = "evaluation.performance.dataloader"

_FALLBACKS = {
    CALIBRATION: (CALIBRATION, ACCURACY),
    ACCURACY: (ACCURACY, CALIBRATION),
    PERFORMANCE: (PERFORMANCE, ACCURACY, CALIBRATION),
}

_PATH_FIELDS = ("data_path", "root", "image_list", "synset")


def source(settings: Settings, document: Document, task: str) -> DataSource:
    """What one task reads.

    Args:
        settings: the validated configuration.
        document: for the line numbers in messages.
        task: CALIBRATION, ACCURACY or PERFORMANCE.

    Raises:
        InputError: nothing gives a dataset or transforms, or a path in it was never filled in.
    """
    loaders = {name: _loader(settings, name) for name in _FALLBACKS[task]}
    transforms = [loader.transform for loader in loaders.values() if loader.transform is not None]
    with_images = ((name, loader.images) for name, loader in loaders.items() if loader.images)
    owner, images = next(with_images, (task, None))
    if images is None:
        raise InputError(
            f"{document.name}: {task}.dataset is missing; add ImagenetRaw or ImageFolder below it"
        )
    if not transforms:
        raise InputError(
            f"{document.name}: {task}.transform is missing; name the model's preprocessing there"
        )
    _refuse_placeholders(owner, loaders[owner], document)
    return DataSource(
        kind="ImagenetRaw" if isinstance(images, ListedImages) else "ImageFolder",
        data_path=images.folder,
        image_list=images.list_file if isinstance(images, ListedImages) else None,
        synset=images.synset if isinstance(images, ClassFolders) else None,
        exif_orientation=images.exif_orientation,
        transform={**transforms[0], **_label_shift(settings)},
        batch_size=loaders[task].batch_size,
        follow_links=settings.images.follow_links,
        skip_bad=settings.images.on_bad_image == "skip",
    )


def check_transforms(settings: Settings, document: Document) -> None:
    """Try every `transform` field out, so that a mistake in it is found before the work starts.

    Raises:
        InputError: a transform is unknown, has wrong arguments, or labels are shifted in two places.
    """
    shift = _label_shift(settings)
    for task in _FALLBACKS:
        transform = _loader(settings, task).transform
        if transform is None:
            continue
        check_transforms_of(f"{task}.transform", transform, document)
        if shift and "LabelShift" in transform:
            raise InputError(
                f"{document.where((*task.split('.'), 'transform', 'LabelShift'))}: {task}.transform and "
                "evaluation.accuracy.postprocess.transform both have a LabelShift; keep one"
            )


def _label_shift(settings: Settings) -> dict[str, dict[str, int]]:
    """The shift of 1.x's `postprocess`, as a transform of the loader; empty without one."""
    shift = settings.evaluation.accuracy.postprocess.transform.LabelShift
    return {"LabelShift": {"label_shift": shift}} if shift else {}


def placeholder_fields(settings: Settings) -> tuple[str, ...]:
    """Dotted names of the data paths that were never filled in, in the order of the schema."""
    return tuple(name for task in _FALLBACKS for name, _ in _placeholders(task, _loader(settings, task)))


def _loader(settings: Settings, task: str) -> Dataloader:
    return {
        CALIBRATION: settings.quantization.calibration.dataloader,
        ACCURACY: settings.evaluation.accuracy.dataloader,
        PERFORMANCE: settings.evaluation.performance.dataloader,
    }[task]


def _placeholders(task: str, loader: Dataloader) -> list[tuple[str, Path]]:
    if loader.dataset is None:
        return []
    paths = {name: getattr(loader.dataset.images, name, None) for name in _PATH_FIELDS}
    return [
        (f"{task}.dataset.{loader.dataset.kind}.{name}", path)
        for name, path in paths.items()
        if path is not None and is_placeholder(path)
    ]


def _refuse_placeholders(task: str, loader: Dataloader, document: Document) -> None:
    for name, path in _placeholders(task, loader):
        labels = " and --label_path FILE" if ".ImagenetRaw." in name else ""
        raise InputError(
            f"{document.where(tuple(name.split('.')))}: {name} is still the placeholder {str(path)!r}: "
            f"edit it there, or pass --dataset_location DIR{labels}"
        )
