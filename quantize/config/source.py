"""One set of images as the pipeline uses it: what several fields of the configuration come down to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["DataSource"]


@dataclass(frozen=True)
class DataSource:
    """Where images and labels come from, and how they become batches.

    Attributes:
        kind: `ImagenetRaw` (image list) or `ImageFolder` (class folders).
        data_path: absolute folder of the images or of the class folders.
        image_list: absolute path of the list, for `ImagenetRaw` only.
        synset: absolute path of the WordNet ids, for `ImageFolder` only; None without.
        exif_orientation: whether photographs are turned upright.
        transform: transform name → arguments, in the order they apply.
        batch_size: images per batch, at least 1.
        follow_links: whether symbolic links may lead out of the folder.
        skip_bad: whether images that cannot be used are left out.
    """

    kind: Literal["ImagenetRaw", "ImageFolder"]
    data_path: Path
    image_list: Path | None
    synset: Path | None
    exif_orientation: bool
    transform: Mapping[str, Any]
    batch_size: int
    follow_links: bool = False
    skip_bad: bool = False
