"""Lists and folders that somebody else made: nothing outside is reached, and nothing costs too much."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from calibration import folders, listing
from calibration.errors import InputError
from calibration.images import ImageSet, read_class_folders, read_image_list
from quantize.labels import read_labels
from tests.quantize.image_samples import CLASSES, configured, listed, load, write_folders
from tests.robustness.bad_files import SPECIAL


def listing_of(root: Path, content: str | bytes) -> Path:
    path = root / "val.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert caught.value.exit_code == 2
    return message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with an image in it, and beside it a file that is none of its business."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (tmp_path / "private").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "private" / "b.png")
    return folder


# Nothing outside is reached.


@pytest.mark.robustness(
    "Data",
    "A line of val.txt names a file outside of the data folder, by `..` or by an absolute path",
    "Refused with the line; the file is not looked at",
)
@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "../secret.png", "x/../../secret.png", "..", "./..", "//etc/passwd"],
)
def test_names_that_lead_out(name: str, root: Path) -> None:
    path = listing_of(root, f"a.png 0\n{name} 1\n")
    message = refused(lambda: read_image_list(root))
    assert message.startswith(f"{path}, line 2: ")
    assert "absolute path" in message or "points out of the data folder" in message


def _file_link(root: Path) -> None:
    (root / "b.png").symlink_to(root.parent / "secret.png")


def _relative_link(root: Path) -> None:
    (root / "b.png").symlink_to("../secret.png")


def _chain_of_links(root: Path) -> None:
    (root / "between.png").symlink_to(root.parent / "secret.png")
    (root / "b.png").symlink_to("between.png")


def _folder_link(root: Path) -> None:
    (root / "sub").symlink_to(root.parent / "private")


def _broken_link(root: Path) -> None:
    (root / "b.png").symlink_to("/nowhere/at/all.png")


OUTWARD = {
    _file_link: "b.png",
    _relative_link: "b.png",
    _chain_of_links: "b.png",
    _folder_link: "sub/b.png",
    _broken_link: "b.png",
}


@pytest.mark.robustness(
    "Data",
    "A symbolic link in the data folder leads out of it: to a file, through another link, of a whole folder, "
    "or to nowhere",
    "Refused with the line, the link and its target, and with the flag that would allow it",
)
@pytest.mark.parametrize("make", OUTWARD, ids=lambda make: make.__name__[1:])
def test_links_that_lead_out(make: Callable[[Path], None], root: Path) -> None:
    make(root)
    path = listing_of(root, f"a.png 0\n{OUTWARD[make]} 1\n")
    message = refused(lambda: read_image_list(root))
    assert message.startswith(f"{path}, line 2: ")
    assert "is a link out of the data folder" in message
    assert "--follow_links" in message
    if make is not _broken_link:
        assert read_image_list(root, follow_links=True).labels == (0, 1)


@pytest.mark.robustness(
    "Data",
    "In a folder of class folders, an image or a whole class is a symbolic link that leads out",
    "Refused with the link and its target, and with the flag that would allow it",
)
@pytest.mark.parametrize("whole_class", [True, False], ids=["class", "image"])
def test_links_that_lead_out_of_class_folders(whole_class: bool, root: Path) -> None:
    (root / "cat").mkdir()
    (root / "a.png").rename(root / "cat" / "a.png")
    if whole_class:
        (root / "dog").symlink_to(root.parent / "private")
    else:
        (root / "dog").mkdir()
        (root / "dog" / "b.png").symlink_to(root.parent / "secret.png")
    message = refused(lambda: read_class_folders(root))
    assert "is a link out of the data folder" in message
    assert read_class_folders(root, follow_links=True).files == ("cat/a.png", "dog/b.png")


@pytest.mark.robustness(
    "Data",
    "The data folder is a symbolic link itself, links in it point to other places in it, or its files are "
    "hard links to files elsewhere",
    "Read like any other",
)
def test_harmless_links(root: Path) -> None:
    (root / "inside.png").symlink_to("a.png")
    os.link(root.parent / "secret.png", root / "hard.png")
    listing_of(root, "a.png 0\ninside.png 1\nhard.png 2\n")
    linked = root.parent / "linked"
    linked.symlink_to(root)
    assert read_image_list(linked).labels == (0, 1, 2)


@pytest.mark.robustness(
    "Data",
    "Twelve class folders each hold links to all others, which makes 10^8 ways through them, and one back up",
    "Every folder is entered once for each class",
)
def test_mazes_of_links(root: Path) -> None:
    names = [f"c{index:02d}" for index in range(12)]
    for name in names:
        (root / name).mkdir()
        (root / name / "x.png").touch()
    for name in names:
        (root / name / "up").symlink_to(root)
        for other in names:
            (root / name / f"to-{other}").symlink_to(root / other)
    images = read_class_folders(root)
    # The image of each class under its own name, and those that links lead to, once for each class.
    assert all(images.labels.count(label) <= 13 for label in range(12))


@pytest.mark.robustness(
    "Data",
    "Folders are nested 1,100 deep, more than Python calls functions in each other",
    "Searched to the end",
)
def test_deep_folders(root: Path) -> None:
    made = [f"{root}/d"]
    for _ in range(1100):
        os.mkdir(made[-1])
        made.append(f"{made[-1]}/d")
    try:
        Path(made[-2], "x.png").touch()
        assert len(read_class_folders(root)) == 1
    finally:  # pytest would go down them, function by function
        os.unlink(f"{made[-2]}/x.png")
        for folder in reversed(made[:-1]):
            os.rmdir(folder)


# Lists that are none.


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
