"""Names of classes, from a file in the format of ImageNet's `synset.txt`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from calibration.textfile import read_lines
from quantize.errors import InputError

# WordNet ids: "n" and an eight-digit offset.
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Label:
    """One class.

    Attributes:
        wnid: its WordNet id, None if the file does not give one.
        name: what people call it; may hold any character, so print it through `printable`.
    """

    wnid: str | None
    name: str


def read_labels(path: Path, classes: int | None = None) -> tuple[Label, ...]:
    """Reads lines `wnid name, name` (or just `name`), in the order of the model's classes.

    Args:
        path: a UTF-8 text file; blank lines are skipped.
        classes: how many there have to be, None if the model does not say.

    Raises:
        InputError: the file cannot be read, is empty, or has another number of classes than the model.
    """
    labels = tuple(_label(line.strip()) for line in read_lines(path) if line.strip())
    if not labels:
        raise InputError(f"--labels {path}: holds no names; write one line per class, 'wnid name'")
    if classes is not None and len(labels) != classes:
        raise InputError(
            f"--labels {path}: names {len(labels)} classes, but the model has {classes}; give the list that "
            "belongs to it"
        )
    return labels


def _label(line: str) -> Label:
    first, _, rest = line.partition(" ")
    if _WNID.fullmatch(first):
        return Label(first, rest.strip() or first)
    return Label(None, line)
