"""Names and links in data folders: nothing outside is reached, however it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from calibration.images import read_class_folders, read_image_list
from tests.robustness.data_folders import listing_of, make_root, refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


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
