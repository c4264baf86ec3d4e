"""Class folders and their labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration import folders
from calibration.errors import InputError
from calibration.folders import read_class_folders


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_sorted_folders_are_the_classes(tmp_path: Path) -> None:
    root = make(
        tmp_path, "dog/2.JPG", "dog/10.png", "cat/x.jpeg", "ant/deep/er/y.webp", "ant/z.bmp", "loose.jpg"
    )
    images = read_class_folders(root)
    assert images.files == ("ant/z.bmp", "ant/deep/er/y.webp", "cat/x.jpeg", "dog/10.png", "dog/2.JPG")
    assert images.labels == (0, 0, 1, 2, 2)


def test_hidden_and_other_files_are_ignored_and_empty_classes_keep_their_index(tmp_path: Path) -> None:
    root = make(
        tmp_path, ".git/a.jpg", "a/.DS_Store", "a/._x.jpg", "a/notes.txt", "b/x.jpg", "b/.cache/y.jpg"
    )
    images = read_class_folders(root)
    assert (images.files, images.labels) == (("b/x.jpg",), (1,))


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/x.jpg")
    outside = make(tmp_path / "outside", "y.jpg")
    (root / "b").symlink_to(outside)
    (root / "a" / "again").symlink_to(root / "a")
    assert read_class_folders(root, follow_links=True).files == ("a/x.jpg", "b/y.jpg")


def test_thousand_wnids_are_imagenet(tmp_path: Path) -> None:
    for index in range(1000):
        (tmp_path / f"n{index:08d}").mkdir()
    make(tmp_path, "n00000999/x.jpg", "n00000007/y.jpg")
    assert read_class_folders(tmp_path).labels == (7, 999)


@pytest.mark.parametrize("name", ["synset.txt", "LOC_synset_mapping.txt"])
@pytest.mark.parametrize("beside", [True, False])
def test_few_wnids_find_their_synset_list(tmp_path: Path, name: str, beside: bool) -> None:
    root = make(tmp_path / "val", "n00000003/x.jpg", "n00000001/y.jpg")
    path = (tmp_path if beside else root) / name
    path.write_text("n00000009 nine\n\nn00000003 three, drei\nn00000001 one\n")
    assert read_class_folders(root).labels == (2, 1)


def test_given_synset_list_rules(tmp_path: Path) -> None:
    root = make(tmp_path / "val", "cat/x.jpg", "dog/y.jpg")
    path = tmp_path / "classes.txt"
    path.write_text("dog\ncat\n")
    assert read_class_folders(root, path).labels == (1, 0)


def test_few_wnids_without_synset_list_say_how_to_cure(tmp_path: Path) -> None:
    root = make(tmp_path / "val", "n00000003/x.jpg", "n00000001/y.jpg")
    with pytest.raises(InputError, match=r"2 wnid folders, not 1000.*put a synset\.txt"):
        read_class_folders(root)


def test_stray_folder_among_wnids_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path, "n00000003/x.jpg", "backup/y.jpg")
    with pytest.raises(InputError, match="folder 'backup' stands among 1 wnid folders"):
        read_class_folders(root)


def test_synset_list_must_fit(tmp_path: Path) -> None:
    root = make(tmp_path / "val", "n00000003/x.jpg")
    path = tmp_path / "synset.txt"
    path.write_text("n00000001 one\n")
    with pytest.raises(InputError, match="does not list folder 'n00000003'"):
        read_class_folders(root)
    path.write_text("n00000003 three\nn00000003 again\n")
    with pytest.raises(InputError, match="line 2: 'n00000003' is listed twice"):
        read_class_folders(root)


def test_flat_and_empty_folders_say_so(tmp_path: Path) -> None:
    flat = make(tmp_path / "flat", "x.jpg")
    with pytest.raises(InputError, match=r"no class folders.*image_list"):
        read_class_folders(flat)
    with pytest.raises(InputError, match="none of its 1 folders holds an image"):
        read_class_folders(make(tmp_path / "empty", "a/readme.txt"))
    with pytest.raises(InputError, match="no such folder"):
        read_class_folders(tmp_path / "none")


def test_unlistable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, whom no permission keeps out, so the refusal is made by hand.
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(folders.os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot be listed: Permission denied"):
        read_class_folders(tmp_path)
