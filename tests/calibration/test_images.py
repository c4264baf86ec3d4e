"""ImageSet and image lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration import listing
from calibration.errors import InputError
from calibration.images import ImageSet, read_image_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    for name in ("b.jpg", "a picture.jpg", "sub/c.jpg"):
        (root / name).write_bytes(name.encode())
    return root


def write_list(folder: Path, data: bytes) -> Path:
    path = folder.parent / "val.txt"
    path.write_bytes(data)
    return path


def test_list_keeps_order_and_takes_the_last_word_for_the_label(folder: Path) -> None:
    images = read_image_list(folder, write_list(folder, b"sub/c.jpg 7\na picture.jpg\t0\nb.jpg 999\n"))
    assert images.files == ("sub/c.jpg", "a picture.jpg", "b.jpg")
    assert images.labels == (7, 0, 999)
    assert images.path(1) == folder / "a picture.jpg"
    assert len(images) == 3
    assert "val.txt" in images.source


def test_list_tolerates_windows_files_and_blank_lines(folder: Path) -> None:
    images = read_image_list(
        folder, write_list(folder, b"\xef\xbb\xbfb.jpg 1\r\n\r\n  ./sub/c.jpg   2  \r\n")
    )
    assert (images.files, images.labels) == (("b.jpg", "sub/c.jpg"), (1, 2))


def test_list_is_looked_for_in_the_data_folder(folder: Path) -> None:
    (folder / "val.txt").write_text("b.jpg 3\n")
    assert read_image_list(folder).labels == (3,)


def test_names_with_unicode_line_separators_stay_whole(folder: Path) -> None:
    name = "a\u2028b.jpg"
    (folder / name).touch()
    assert read_image_list(folder, write_list(folder, f"{name} 1\n".encode())).files == (name,)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"b.jpg\n", 1, "has no label"),
        (b"\nb.jpg one\n", 2, "'one' is not a class index"),
        (b"b.jpg -1\n", 1, "'-1' is not a class index"),
        (b"b.jpg 1.0\n", 1, "not a class index"),
        (b"b.jpg 99999999999999999999\n", 1, "not a class index"),
        ("b.jpg ²\n".encode(), 1, "not a class index"),
        (b"/etc/passwd 1\n", 1, "absolute path"),
        (b"../x.jpg 1\n", 1, "points out of the data folder"),
        (b"sub/../../x.jpg 1\n", 1, "points out of the data folder"),
        (b".. 1\n", 1, "points out of the data folder"),
        (b"b.jpg 1\nsub/c.jpg 2\n./b.jpg 1\n", 3, "already on line 1"),
        (b"b.jpg 1\nnone.jpg 2\n", 2, "there is no image 'none.jpg'"),
        (b"nowhere/x.jpg 1\n", 1, "there is no image 'nowhere/x.jpg'"),
        (b"sub 1\n", 1, "there is no image 'sub'"),
    ],
)
def test_bad_lines_are_named(folder: Path, content: bytes, line: int, reason: str) -> None:
    path = write_list(folder, content)
    with pytest.raises(InputError) as caught:
        read_image_list(folder, path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert reason in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_missing_images_are_counted(folder: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: .*'x\.jpg'.*and 2 more of 4"):
        read_image_list(folder, write_list(folder, b"x.jpg 1\ny.jpg 1\nb.jpg 1\nz.jpg 1\n"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "lists no image"),
        (b"\n \n", "lists no image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF 1\n", "not a UTF-8 text file"),
    ],
)
def test_bad_list_files(folder: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_image_list(folder, write_list(folder, content))


def test_bad_paths(folder: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_image_list(folder / "none", folder / "val.txt")
    with pytest.raises(InputError, match="is not a folder"):
        read_image_list(folder / "b.jpg", folder / "val.txt")
    with pytest.raises(InputError, match="no such file"):
        read_image_list(folder, folder / "none.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_image_list(folder, folder / "sub")


def test_broken_links_are_missing_and_good_ones_are_not(folder: Path) -> None:
    (folder / "good.jpg").symlink_to(folder / "b.jpg")
    assert len(read_image_list(folder, write_list(folder, b"good.jpg 1\n"))) == 1
    (folder / "bad.jpg").symlink_to(folder / "gone.jpg")
    with pytest.raises(InputError, match=r"there is no image 'bad\.jpg'"):
        read_image_list(folder, write_list(folder, b"bad.jpg 1\n"))


def test_every_listed_folder_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 50,000 single look-ups are what makes a network disk slow; the cost is in calls, so calls are counted.
    for index in range(200):
        (tmp_path / f"{index}.jpg").touch()
    path = tmp_path / "val.txt"
    path.write_text("".join(f"{index}.jpg 0\n" for index in range(200)))
    scanned = []
    original = listing.os.scandir
    monkeypatch.setattr(listing.os, "scandir", lambda folder: scanned.append(folder) or original(folder))
    assert len(read_image_list(tmp_path, path)) == 200
    assert scanned == [tmp_path]


def test_subset_keeps_the_order_asked_for(folder: Path) -> None:
    images = ImageSet(folder, ("b.jpg", "a picture.jpg", "sub/c.jpg"), (1, 2, 3), "test")
    part = images.subset([2, 0])
    assert (part.files, part.labels, part.root, part.source) == (
        ("sub/c.jpg", "b.jpg"),
        (3, 1),
        folder,
        "test",
    )


def test_labels_and_files_must_match(folder: Path) -> None:
    with pytest.raises(ValueError, match="got 1 files, 2 labels"):
        ImageSet(folder, ("b.jpg",), (1, 2), "test")


def test_digest_follows_names_labels_contents_and_order(folder: Path, tmp_path: Path) -> None:
    images = ImageSet(folder, ("b.jpg", "sub/c.jpg"), (1, 2), "test")
    digest = images.digest()
    assert digest == images.digest()
    assert len(digest) == 64
    others = {
        images.subset([1, 0]).digest(),
        images.subset([0]).digest(),
        ImageSet(folder, images.files, (1, 3), "test").digest(),
        ImageSet(folder, ("b.jpg", "a picture.jpg"), (1, 2), "test").digest(),
    }
    assert len(others | {digest}) == 5
    moved = folder.rename(tmp_path / "elsewhere")
    assert ImageSet(moved, images.files, images.labels, "other").digest() == digest
    (moved / "b.jpg").write_bytes(b"changed")
    assert ImageSet(moved, images.files, images.labels, "test").digest() != digest


def test_digest_names_an_unreadable_file(folder: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: cannot be read"):
        ImageSet(folder, ("gone.jpg",), (1,), "test").digest()


def test_overlap_follows_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    here = ImageSet(folder, ("b.jpg", "sub/c.jpg"), (1, 2), "test")
    there = ImageSet(tmp_path / "linked", ("b.jpg", "a picture.jpg"), (1, 2), "test")
    assert here.overlap(there) == there.overlap(here) == 1
    assert here.overlap(here) == 2
    assert here.overlap(there.subset([1])) == 0


def test_real_list(shared_dir: Path) -> None:
    sample = shared_dir / "imagenet-sample"
    images = read_image_list(sample / "images", sample / "val.txt")
    assert len(images) == 500
    assert images.labels == tuple(range(0, 1000, 2))
