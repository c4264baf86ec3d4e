from __future__ import annotations

import hashlib
import io
import tarfile
import types
from pathlib import Path
from typing import Any

import pytest

from calibration.images import read_image_list
from quantize.acquire import GroundTruth, imagenet, prepare_imagenet, read_devkit
from quantize.errors import InputError
from tests.quantize.acquire.archives import (
    IN_LABEL_ORDER,
    LABELS,
    SYNSETS,
    image_name,
    jpeg,
    meta_mat,
    write_devkit,
    write_tar,
    write_val_tar,
)

NAMED = GroundTruth({image_name(i + 1): label for i, label in enumerate(LABELS)}, (), (), "val.txt")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_val_tar(tmp_path / "val.tar")


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    return read_devkit(write_devkit(tmp_path / "kit.tar.gz"))


def test_images_and_labels(archive: Path, truth: GroundTruth, tmp_path: Path) -> None:
    made = prepare_imagenet(archive, truth, tmp_path / "out", sha1=None)
    assert (made.count, made.written) == (6, 6)
    images = read_image_list(made.images, made.image_list)
    assert images.files == tuple(image_name(i) for i in range(1, 7))
    assert images.labels == LABELS
    assert all((made.images / image_name(i)).read_bytes() == jpeg(i) for i in range(1, 7))
    assert made.synset is not None
    lines = made.synset.read_text(encoding="utf-8").splitlines()
    assert lines == [f"{wnid} {name}" for wnid, name in IN_LABEL_ORDER]


def test_both_kinds_of_ground_truth_give_the_same(archive: Path, truth: GroundTruth, tmp_path: Path) -> None:
    one, other = (
        prepare_imagenet(archive, given, tmp_path / str(i), sha1=None)
        for i, given in enumerate((truth, NAMED))
    )
    assert one.image_list.read_bytes() == other.image_list.read_bytes()
    assert other.synset is None


def test_again_nothing_is_written_but_what_is_missing_or_damaged(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = prepare_imagenet(archive, NAMED, out, sha1=None)
    before = {path: path.stat().st_ino for path in made.images.iterdir()}
    assert prepare_imagenet(archive, NAMED, out, sha1=None).written == 0
    assert {path: path.stat().st_ino for path in made.images.iterdir()} == before
    (made.images / image_name(2)).unlink()
    damaged = made.images / image_name(3)
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    assert prepare_imagenet(archive, NAMED, out, sha1=None).written == 2
    assert damaged.read_bytes() == jpeg(3)


def test_the_archive_is_checked_before_anything_is_written(archive: Path, tmp_path: Path) -> None:
    sha1 = hashlib.sha1(archive.read_bytes()).hexdigest()
    with pytest.raises(
        InputError, match=f"has SHA-1 {sha1}, expected 5f3f73da3395154b60528b2b2a2caf2374f5f178"
    ):
        prepare_imagenet(archive, NAMED, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    seen: list[tuple[str, int, int]] = []
    prepare_imagenet(
        archive, NAMED, tmp_path / "out", sha1=sha1.upper(), progress=lambda *said: seen.append(said)
    )
    assert ("checking the archive", archive.stat().st_size, archive.stat().st_size) in seen
    assert ("extracting images", 6, 6) in seen


@pytest.mark.parametrize(
    "name",
    [
        "../evil.JPEG",
        "/tmp/evil.JPEG",
        "readme.txt",
        "a/ILSVRC2012_val_00000007.JPEG",
        "ILSVRC2012_val_7.JPEG",
    ],
)
def test_nothing_but_images_is_accepted(name: str, tmp_path: Path) -> None:
    files = {image_name(1): jpeg(1), name: b"evil"}
    with pytest.raises(InputError, match="which is no validation image"):
        prepare_imagenet(write_tar(tmp_path / "v.tar", files), NAMED, tmp_path / "out", sha1=None)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil.JPEG").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_no_links_and_devices(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.tar"
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(image_name(1))
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(InputError, match="which is no validation image"):
        prepare_imagenet(path, NAMED, tmp_path / "out", sha1=None)


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "v.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            entry = tarfile.TarInfo(image_name(1))
            tar.addfile(entry, io.BytesIO(b""))
    with pytest.raises(InputError, match="twice"):
        prepare_imagenet(path, NAMED, tmp_path / "out", sha1=None)


def test_names_may_begin_with_dot_slash(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "v.tar", {f"./{image_name(i)}": jpeg(i) for i in range(1, 7)})
    assert prepare_imagenet(path, NAMED, tmp_path / "out", sha1=None).count == 6


def test_labels_of_other_images(tmp_path: Path, truth: GroundTruth) -> None:
    fewer = write_val_tar(tmp_path / "v.tar", count=5)
    with pytest.raises(InputError, match=r"holds 5 images, but val\.txt has 6 labels"):
        prepare_imagenet(fewer, NAMED, tmp_path / "out", sha1=None)
    other = write_tar(tmp_path / "o.tar", {image_name(i): jpeg(i) for i in range(2, 8)})
    with pytest.raises(InputError, match=rf"has no label for {image_name(7)}"):
        prepare_imagenet(other, NAMED, tmp_path / "out", sha1=None)
    with pytest.raises(InputError, match="are not numbered 1 to 6"):
        prepare_imagenet(other, truth, tmp_path / "out", sha1=None)


def test_damaged_archives(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        prepare_imagenet(tmp_path / "gone.tar", NAMED, tmp_path / "out", sha1=None)
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"is no readable tar archive|holds no images"):
        prepare_imagenet(tmp_path / "empty.tar", NAMED, tmp_path / "out", sha1=None)
    content = archive.read_bytes()
    (tmp_path / "half.tar").write_bytes(content[: len(content) // 2 + 100])
    with pytest.raises(InputError, match=r"download it again|do not belong together"):
        prepare_imagenet(tmp_path / "half.tar", NAMED, tmp_path / "out", sha1=None)
    assert not (tmp_path / "out" / "val.txt").exists()


def test_a_disk_without_space(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=10))
    with pytest.raises(InputError, match="GB free, but"):
        prepare_imagenet(archive, NAMED, tmp_path / "out", sha1=None)


def test_labels_are_written_last(
    archive: Path, truth: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that where `val.txt` is, everything is."""
    written: list[str] = []
    for name in ("atomic_write_bytes", "atomic_write_text"):
        plain = getattr(imagenet, name)

        def noted(path: Path, content: object, plain: Any = plain) -> None:
            written.append(path.name)
            plain(path, content)

        monkeypatch.setattr(imagenet, name, noted)
    prepare_imagenet(archive, truth, tmp_path / "out", sha1=None)
    assert written[-2:] == ["synset.txt", "val.txt"]
    assert len(written) == 8


def test_names_of_classes_stay_on_their_lines(archive: Path, tmp_path: Path) -> None:
    odd = [(wnid, f"{name}\nn99999999 {name}") for wnid, name in SYNSETS]
    truth = read_devkit(write_devkit(tmp_path / "kit.tar.gz", meta=meta_mat(odd)))
    made = prepare_imagenet(archive, truth, tmp_path / "out", sha1=None)
    assert made.synset is not None
    assert len(made.synset.read_text(encoding="utf-8").splitlines()) == len(SYNSETS)
