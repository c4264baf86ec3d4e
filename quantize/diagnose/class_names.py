"""What the classes are called, for people: from a list, or from the names of folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from calibration.dataloader import DataLoader
from quantize.errors import InputError
from quantize.labels import read_labels

# How the list of ImageNet's classes is called in the data sets and repositories that bring one.
_USUAL_NAMES = ("synset.txt", "synset_words.txt")


def class_names(
    loader: DataLoader, classes: int | None, *, given: Path | None = None, image_list: Path | None = None
) -> Mapping[int, str]:
    """Class index, as the model counts -> name; empty if nobody says.

    Args:
        loader: the evaluation images.
        classes: of the model; None if it does not say.
        given: a list that the user named.
        image_list: where the images are listed; a list of classes may lie beside it. None for class folders,
            whose names are those of the classes.

    Raises:
        InputError: `given` cannot be read, or has another number of classes than the model.
    """
    if given is not None:
        return _named(given, classes)
    if image_list is None:
        shift = sum(int(getattr(step, "label_shift", 0)) for step in loader.pipeline.steps)
        folders = (PurePosixPath(name).parts[0] for name in loader.images.files)
        return {label - shift: name for label, name in zip(loader.images.labels, folders, strict=True)}
    for path in (image_list.with_name(name) for name in _USUAL_NAMES):
        try:
            if path.is_file():
                return _named(path, classes)
        except InputError:  # nobody asked for it, so it need not fit
            continue
    return {}


def _named(path: Path, classes: int | None) -> Mapping[int, str]:
    return dict(enumerate(label.name for label in read_labels(path, classes)))
