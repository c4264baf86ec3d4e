"""Lists and folders that somebody else made: what is no list, labels that are none, and very many files."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration import folders, listing
from calibration.images import ImageSet, read_class_folders, read_image_list
from quantize.labels import read_labels
from tests.quantize.image_samples import CLASSES, configured, listed, load, write_folders
from tests.robustness.bad_files import SPECIAL
from tests.robustness.data_folders import listing_of, make_root, refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.mark.robustness(
    "Data",
    "The list of images, or of class names, is a pipe, an endless device or a socket",
    "Refused at once by what it is",
)
@pytest.mark.parametrize("kind", SPECIAL)
def test_lists_that_are_no_files(kind: str, root: Path) -> None:
    path = root / "val.txt"
    SPECIAL[kind](path)
    assert (
        refused(lambda: read_image_list(root)) == f"{path}: is a {kind}, and only files are read: give a file"
    )
    assert f"is a {kind}" in refused(lambda: read_labels(path))


@pytest.mark.robustness(
    "Data",
    "The list is a photograph, UTF-16 text, zeros, or 20 GB long",
    "Refused in one line; a large one without being read",
)
@pytest.mark.parametrize("what", ["photograph", "UTF-16", "zeros", "20 GB"])
def test_lists_that_are_no_text(what: str, root: Path) -> None:
    contents = {
        "photograph": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)),
        "UTF-16": "a.png 0\n".encode("utf-16"),
        "zeros": bytes(1000),
        "20 GB": b"a.png 0\n",
    }
    path = listing_of(root, contents[what])
    if what == "20 GB":
        os.truncate(path, 20 << 30)
    message = refused(lambda: read_image_list(root))
    assert ("is too large for a list" if what == "20 GB" else "is not a UTF-8 text file") in message


# Labels.


@pytest.mark.robustness(
    "Data",
    "A label is missing, no number, negative, a fraction, in other digits, or has 300 digits",
    "Refused with the line and what was written",
)
@pytest.mark.parametrize(
    "line",
    [
        "a.png",
        "a.png cat",
        "a.png -1",
        "a.png 1.5",
        "a.png 1e3",
        "a.png ٣",
        "a.png 0x1",
        f"a.png {'9' * 300}",
    ],
)
def test_labels_that_are_none(line: str, root: Path) -> None:
    path = listing_of(root, f"\n{line}\n")
    message = refused(lambda: read_image_list(root))
    assert message.startswith(f"{path}, line 2: ")
    assert "has no label" in message or "is not a class index" in message


@pytest.mark.robustness(
    "Data",
    "An image is listed twice, with the same label, another one, or under another spelling of its name",
    "Refused with both lines",
)
@pytest.mark.parametrize("second", ["a.png 0", "a.png 1", "./a.png 1", "x/../a.png 1", "a.png  1 "])
def test_images_that_are_listed_twice(second: str, root: Path) -> None:
    path = listing_of(root, f"a.png 0\n{second}\n")
    assert refused(lambda: read_image_list(root)) == (
        f"{path}, line 2: 'a.png' is already on line 1: remove one of the two"
    )


@pytest.mark.robustness(
    "Data",
    "A label is larger than the model has classes, or shifted below 0",
    "Refused before any image is opened, with the first image that has it",
)
@pytest.mark.parametrize("shift", [0, 1], ids=["too large", "below zero"])
def test_labels_that_the_model_has_not(shift: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folders(tmp_path / "set", 40)
    lines = (root / "val.txt").read_text().splitlines()
    if not shift:
        lines[7] = f"{lines[7].split()[0]} {CLASSES}"
    (root / "val.txt").write_text("\n".join(lines))
    shifted = {"LabelShift": {"label_shift": shift}} if shift else {}
    transform = {"Rescale": {}, "Transpose": {"perm": [2, 0, 1]}, **shifted}
    config = configured(listed(root), listed(root), transform=transform)
    monkeypatch.setattr("calibration.prepared.decoded", lambda *_, **__: pytest.fail("was opened"))
    message = refused(lambda: load(config))
    wrong = f"has {-shift if shift else CLASSES}; check it" in message
    assert wrong
    assert "labels run from" in message
    assert ".png" in message


# Very many.


class _Entry:
    """As `os.scandir` gives them, and it tells when the system has to be asked for more."""

    asked = 0

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.path = name, f"{folder}/{name}"

    def is_file(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def is_symlink(self) -> bool:
        return False

    def stat(self, **_: object) -> object:
        type(self).asked += 1
        raise AssertionError("every file is asked for more")


class _Folder:
    def __init__(self, entries: Iterator[_Entry]) -> None:
        self._entries = entries

    def __enter__(self) -> Iterator[_Entry]:
        return self._entries

    def __exit__(self, *_: object) -> None:
        pass


MANY = 200_000


@pytest.mark.robustness(
    "Data",
    "The data folder holds 200,000 files, of which the list names a thousand",
    "Listed once without asking for any single file, in memory for the thousand",
)
def test_a_list_in_a_folder_of_very_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing_of(root, "".join(f"{index:07d}.jpg 0\n" for index in range(0, MANY, MANY // 1000)))
    scans = []

    def scandir(folder: Path) -> _Folder:
        scans.append(folder)
        return _Folder(_Entry(root, f"{index:07d}.jpg") for index in range(MANY))

    stats = []
    real = os.stat
    tracemalloc.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(listing.os, "scandir", scandir)
            patch.setattr(listing.os, "stat", lambda *args, **more: stats.append(args) or real(*args, **more))
            images = read_image_list(root)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(stats) < 10
    assert (len(images), len(scans)) == (1000, 1)
    assert peak_bytes < 4_000_000


@pytest.mark.robustness(
    "Data",
    "A class folder holds 200,000 images",
    "Listed without asking for any single file",
)
def test_class_folders_of_very_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = MANY
    (root / "cat").mkdir()
    real = os.scandir

    def scandir(folder: Path) -> object:
        if Path(folder).name != "cat":
            return real(folder)
        return _Folder(_Entry(Path(folder), f"{index:07d}.jpg") for index in range(many))

    monkeypatch.setattr(folders.os, "scandir", scandir)
    images = read_class_folders(root)
    assert isinstance(images, ImageSet)
    assert len(images) == many
