"""Changes to a written configuration, as the command line makes them; every result is validated again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantize.config.paths import IMAGE_LIST_NAME, is_placeholder, looks_like_class_folders
from quantize.errors import InputError, quoted

__all__ = ["DATALOADERS", "apply", "point_at"]

# The sections that hold images, in the order in which one falls back to another.
DATALOADERS = (
    "quantization.calibration.dataloader",
    "evaluation.accuracy.dataloader",
    "evaluation.performance.dataloader",
)

_KINDS = ("ImagenetRaw", "ImageFolder")


def apply(content: dict[str, Any], overrides: Mapping[str, object]) -> None:
    """Set dotted fields in place; None removes a field, so that its default holds.

    Raises:
        InputError: a field on the way holds a value where fields were expected.
    """
    for dotted, value in overrides.items():
        *sections, name = dotted.split(".")
        section = content
        for depth, part in enumerate(sections, start=1):
            if section.get(part) is None:
                section[part] = {}
            if not isinstance(section[part], dict):
                raise InputError(
                    f"{'.'.join(sections[:depth])}: expected fields, got {quoted(section[part])}"
                )
            section = section[part]
        section[name] = value  # None counts as not given


def point_at(content: dict[str, Any], location: Path | None, label_path: Path | None) -> list[str]:
    """Make every dataset of a valid configuration read other images, in place.

    With an image list, a dataset of class folders becomes one of listed images. Without one, a list that was
    never filled in gives way to the folder's own `val.txt`, or to class folders where the folder holds those.
    Where neither calibration nor accuracy has images, accuracy gets these; calibration falls back to them.

    Returns:
        What was decided that the user did not ask for, one sentence each.

    Raises:
        InputError: there is an image list and no folder that its names could be in.
    """
    if not any(_has_images(content, dotted) for dotted in DATALOADERS[:2]):
        apply(content, {f"{DATALOADERS[1]}.dataset": _new(location, label_path)})
    notes: dict[str, None] = {}
    for dotted in DATALOADERS:
        loader = _section(content, dotted)
        if loader is None or not loader.get("dataset"):
            continue
        for kind in _KINDS:
            if loader["dataset"].get(kind) is not None:
                fields = dict(loader["dataset"][kind])
                loader["dataset"] = _moved(kind, fields, location, label_path, notes)
                break
    return list(notes)


def _has_images(content: dict[str, Any], dotted: str) -> bool:
    loader = _section(content, dotted) or {}
    return any((loader.get("dataset") or {}).get(kind) is not None for kind in _KINDS)


def _new(location: Path | None, label_path: Path | None) -> dict[str, Any]:
    if location is None:
        raise InputError(
            f"--label_path {label_path}: the configuration names no folder of images; "
            "pass --dataset_location DIR too"
        )
    listed = label_path is not None or (location / IMAGE_LIST_NAME).is_file()
    return {"ImagenetRaw": {"data_path": location}} if listed else {"ImageFolder": {"root": location}}


def _section(content: dict[str, Any], dotted: str) -> dict[str, Any] | None:
    section: Any = content
    for part in dotted.split("."):
        section = (section or {}).get(part)
    return section if isinstance(section, dict) else None


def _moved(
    kind: str, fields: dict[str, Any], location: Path | None, label_path: Path | None, notes: dict[str, None]
) -> dict[str, Any]:
    shared = {"exif_orientation": fields["exif_orientation"]} if "exif_orientation" in fields else {}
    folder = location or fields.get("data_path") or fields.get("root")
    if label_path is not None:
        return {"ImagenetRaw": {**shared, "data_path": folder, "image_list": label_path}}
    if kind == "ImageFolder":
        synset = {"synset": fields["synset"]} if "synset" in fields else {}
        return {"ImageFolder": {**shared, **synset, "root": folder}}
    written = fields.get("image_list")
    filled_in = written is not None and not is_placeholder(written)
    if location is not None and not filled_in:
        if (location / IMAGE_LIST_NAME).is_file():
            return {"ImagenetRaw": {**shared, "data_path": folder}}
        if looks_like_class_folders(location):
            notes[
                f"{location} has no {IMAGE_LIST_NAME} and several sub-folders: read as one folder per class"
            ] = None
            return {"ImageFolder": {**shared, "root": folder}}
    return {"ImagenetRaw": {**fields, "data_path": folder}}
