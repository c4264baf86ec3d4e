"""Class folders: one sub-folder per class, as ImageNet's validation set is usually kept."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibration.containment import Containment
from calibration.errors import InputError
from calibration.imageset import ImageSet
from calibration.listing import check_folder
from calibration.textfile import read_lines

# What torchvision's ImageFolder takes for an image; compared in lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

# ImageNet's folders are named after WordNet synsets: "n" and an eight-digit offset.
_WNID = re.compile(r"n\d{8}")

# ILSVRC2012 numbers its 1000 classes in the sorted order of their wnids.
_IMAGENET_CLASS_COUNT = 1000

# Where the order of the classes is looked for when it is needed and not given.
_SYNSET_NAMES = ("synset.txt", "LOC_synset_mapping.txt")


def read_class_folders(
    data_path: str | Path, synset: str | Path | None = None, *, follow_links: bool = False
) -> ImageSet:
    """Reads a folder whose sub-folders are the classes.

    Sub-folders are sorted by name and searched to any depth for image files (`IMAGE_SUFFIXES`, any case),
    again sorted; names that start with a dot are ignored. Links are followed, but within a class no folder is
    entered twice. No file is opened, and none but links is asked for anything. An empty class folder keeps
    its index. Labels are:

    - with `synset`: the line (from 0) of the folder's name in that file;
    - exactly 1000 folders, all named by wnid: the sorted index, which is the ImageNet class index;
    - another number of folders, all named by wnid: from `synset.txt` or `LOC_synset_mapping.txt` in
      `data_path` or its parent. Their sorted index would be a class index of no ImageNet model, so without
      such a file it is an error;
    - otherwise the sorted index.

    Args:
        data_path: the folder that holds the class folders.
        synset: a text file whose lines start with a folder name, `wnid name, name…`, in label order.
        follow_links: whether symbolic links may lead out of `data_path`.

    Raises:
        InputError: a link leads out of the folder, there are no class folders or no images, or the labels
            cannot be known.
    """
    root = check_folder(data_path)
    classes = _class_names(root)
    label_of = _labels(root, classes, Path(synset) if synset is not None else None)
    inside = Containment(root, follow_links)
    files: list[str] = []
    labels: list[int] = []
    for name in classes:
        found = list(_walk(root, name, inside))
        files += found
        labels += [label_of[name]] * len(found)
    if not files:
        raise InputError(
            f"{root}: none of its {len(classes)} folders holds an image ({' '.join(IMAGE_SUFFIXES)})"
        )
    return ImageSet(root, tuple(files), tuple(labels), f"class folders in {root}")


def _class_names(root: Path) -> list[str]:
    with _scan(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(
            f"{root}: holds no class folders: put the images of each class into a sub-folder, "
            "or give a list of images and labels (ImagenetRaw with image_list)"
        )
    return names


def _labels(root: Path, classes: Sequence[str], synset: Path | None) -> dict[str, int]:
    """Label of each class folder, after the rules of `read_class_folders`."""
    others = [name for name in classes if not _WNID.fullmatch(name)]
    sorted_index = {name: index for index, name in enumerate(classes)}
    if synset is None:
        if len(others) == len(classes) or (not others and len(classes) == _IMAGENET_CLASS_COUNT):
            return sorted_index
        if others:
            raise InputError(
                f"{root}: folder {others[0]!r} stands among {len(classes) - len(others)} wnid folders "
                "and would shift their labels: remove it, or give a synset list"
            )
        synset = _find_synset(root, len(classes))
    known = _read_synset(synset)
    unlisted = [name for name in classes if name not in known]
    if unlisted:
        raise InputError(
            f"{synset}: does not list folder {unlisted[0]!r} of {root}: add it, or remove the folder"
        )
    return known


def _find_synset(root: Path, count: int) -> Path:
    for folder in (root, root.resolve().parent):
        for name in _SYNSET_NAMES:
            if (folder / name).is_file():
                return folder / name
    raise InputError(
        f"{root}: holds {count} wnid folders, not {_IMAGENET_CLASS_COUNT}, so their labels are unknown: "
        f"put a {_SYNSET_NAMES[0]} (lines 'wnid name', in label order) there or into its parent, or give one"
    )


def _read_synset(path: Path) -> dict[str, int]:
    """Class name (the first word of a line) → number of the line among those not blank."""
    label_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split(maxsplit=1)
        if not words:
            continue
        if words[0] in label_of:
            raise InputError(
                f"{path}, line {number}: {words[0]!r} is listed twice: remove one of the two lines"
            )
        label_of[words[0]] = len(label_of)
    return label_of


def _walk(root: Path, class_folder: str, inside: Containment) -> Iterator[str]:
    """Names of the image files under a class folder: those right in it, then its sub-folders, each sorted.

    Folders are told apart by their real paths: a link back to one that was entered would never end, and links
    between folders could make as many ways through them as they have orders.
    """
    entered: set[str] = set()
    waiting = [(class_folder, inside.check(root / class_folder, str(root)))]
    while waiting:
        folder, real = waiting.pop()
        if real in entered:
            continue
        entered.add(real)
        names: list[str] = []
        folders: list[tuple[str, str]] = []
        with _scan(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                is_folder = entry.is_dir()
                if not is_folder and not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    continue
                # Only links are looked up: a real path costs a look at every folder on the way.
                linked = entry.is_symlink()
                target = inside.check(entry.path, str(root)) if linked else f"{real}/{entry.name}"
                if is_folder:
                    folders.append((f"{folder}/{entry.name}", target))
                else:
                    names.append(f"{folder}/{entry.name}")
        yield from sorted(names)
        waiting += sorted(folders, reverse=True)


def _scan(folder: Path) -> os._ScandirIterator[str]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror or error}") from error
