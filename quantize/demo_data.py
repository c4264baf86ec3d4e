"""Writes the bundled example's pictures (:mod:`calibration.digits`) as real PNG files, once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from calibration.digits import (
    CLASS_COUNT,
    HELD_OUT_COUNT,
    SPLIT_SEED,
    TRAINING_COUNT,
    load_strokes,
    render_digit,
    split_digits,
    stratified_subset,
)
from calibration.errors import InputError

MANIFEST_NAME = "manifest.json"
_FORMAT = 1  # raise it whenever a picture or the layout changes: older folders are then written anew
_PICTURE = re.compile(r"(calibration|evaluation)/\d/\d{4}\.png")


@dataclass(frozen=True)
class DigitsDataset:
    """Folders of PNG files, ``<root>/{calibration,evaluation}/<class>/<number of the digit>.png``.

    Attributes:
        root: the folder that holds both sets and the manifest.
        calibration_count: pictures in the calibration set, all of training digits.
        evaluation_count: pictures in the evaluation set, all of digits no bundled network was trained on.
        sha256: over the names and contents of all files, in sorted order.
    """

    root: Path
    calibration_count: int
    evaluation_count: int
    sha256: str

    @property
    def calibration(self) -> Path:
        """Folder of the calibration set, one folder per class."""
        return self.root / "calibration"

    @property
    def evaluation(self) -> Path:
        """Folder of the evaluation set, one folder per class."""
        return self.root / "evaluation"


def write_digits_dataset(
    folder: str | Path, *, calibration_count: int = 200, evaluation_count: int = HELD_OUT_COUNT
) -> DigitsDataset:
    """Make sure that ``folder`` holds the example's pictures, and say where they are.

    The set is written beside ``folder`` and moved into place, so the folder is never half full. A folder that
    already holds exactly this set is used as it is; one of ours that is damaged or has other counts is
    replaced. A killed process can leave a hidden ``.<name>-*.tmp`` folder beside it and nothing else.

    Args:
        folder: where to put it; created with its parents.
        calibration_count: pictures of training digits, 10 to 1,000.
        evaluation_count: pictures of held-out digits, 10 to 797.

    Returns:
        The dataset, its files checked against their hashes.

    Raises:
        InputError: a count is out of range, the folder holds files that are not ours, or cannot be written.
    """
    for name, value, most in (
        ("calibration_count", calibration_count, TRAINING_COUNT),
        ("evaluation_count", evaluation_count, HELD_OUT_COUNT),
    ):
        if not CLASS_COUNT <= value <= most:
            raise InputError(f"{name}: {value} is not possible, choose {CLASS_COUNT} to {most}")
    root = Path(folder).absolute()
    wanted = {"format": _FORMAT, "calibration_count": calibration_count, "evaluation_count": evaluation_count}
    try:
        _refuse_foreign_files(root)
        found = _verified_hash(root, wanted)
        if found is None:
            root.parent.mkdir(parents=True, exist_ok=True)
            found = _replace(root, wanted)
    except OSError as error:
        raise InputError(f"{root}: cannot write the example's images: {error.strerror or error}") from error
    return DigitsDataset(root, calibration_count, evaluation_count, found)


def _refuse_foreign_files(root: Path) -> None:
    """Raise for anything in ``root`` that a rewrite would delete though we did not put it there."""
    if not root.exists():
        return
    if not root.is_dir():
        raise InputError(f"{root}: is a file, name a folder for the example's images")
    files = _visible_files(root)
    if files and MANIFEST_NAME not in files:
        raise InputError(f"{root}: holds other files, name an empty folder for the example's images")
    for name in files:
        if name != MANIFEST_NAME and not _PICTURE.fullmatch(name):
            raise InputError(f"{root / name}: is not one of the example's images, move it elsewhere")


def _visible_files(root: Path) -> list[str]:
    """Relative posix names of all files below ``root`` but hidden ones, which file browsers leave behind."""
    paths = (path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in paths if not path.name.startswith("."))


def _verified_hash(root: Path, wanted: dict[str, int]) -> str | None:
    """Hash of the set if ``root`` holds exactly the wanted one, undamaged; otherwise None."""
    try:
        manifest = json.loads((root / MANIFEST_NAME).read_text(encoding="utf-8"))
        expected = str(manifest.pop("sha256"))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or damaged: the caller writes the set anew
    return expected if manifest == wanted and _hash_set(root) == expected else None


def _hash_set(root: Path) -> str:
    """Sha256 over name and content of every picture, in sorted order."""
    total = hashlib.sha256()
    for name in _visible_files(root):
        if name != MANIFEST_NAME:
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


def _replace(root: Path, wanted: dict[str, int]) -> str:
    """Write the wanted set beside ``root``, swap it in and return its hash."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}-", suffix=".tmp", dir=root.parent))
    try:
        fresh, old = temporary / "new", temporary / "old"
        _write_pictures(fresh, wanted)
        digest = _hash_set(fresh)
        text = json.dumps({**wanted, "sha256": digest}, indent=2) + "\n"
        (fresh / MANIFEST_NAME).write_text(text, encoding="utf-8")
        if _verified_hash(root, wanted) == digest:
            return digest  # another process was quicker, and may be reading its files by now
        if root.exists():
            os.replace(root, old)
        try:
            os.replace(fresh, root)
        except OSError:
            if _verified_hash(root, wanted) != digest:  # the same race, lost by less
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest


def _write_pictures(root: Path, wanted: dict[str, int]) -> None:
    """Draw both sets below ``root``; the seed of a picture is the number of its digit."""
    strokes, labels = load_strokes()
    training, held_out = split_digits(labels)
    sets = {
        "calibration": stratified_subset(labels, training, wanted["calibration_count"], SPLIT_SEED + 1),
        "evaluation": stratified_subset(labels, held_out, wanted["evaluation_count"], SPLIT_SEED + 2),
    }
    for name, indices in sets.items():
        for index in indices:
            path = root / name / str(labels[index]) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(render_digit(strokes[index], int(index)))
            picture.save(path, format="PNG", compress_level=1)  # noise does not compress: level 1 is quickest
