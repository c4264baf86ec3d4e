from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantize.acquire import read_devkit, read_ground_truth
from quantize.errors import InputError
from tests.quantize.acquire.archives import (
    IN_LABEL_ORDER,
    LABELS,
    NUMBERS,
    SYNSETS,
    image_name,
    meta_mat,
    write_devkit,
    write_tar,
)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_names_and_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "val.txt", f"{image_name(1)} 65", f"val/{image_name(2)} 970")
    truth = read_ground_truth(path, None)
    assert truth.by_name == {image_name(1): 65, image_name(2): 970}
    assert len(truth) == 2


def test_numbers_are_translated_by_wordnet_id(tmp_path: Path) -> None:
    synsets = write(tmp_path / "synsets.txt", *(" ".join(pair) for pair in SYNSETS))
    truth = read_ground_truth(write(tmp_path / "truth.txt", *NUMBERS), synsets)
    assert tuple(truth.in_order) == LABELS
    assert [(label.wnid, label.name) for label in truth.labels] == IN_LABEL_ORDER


def test_the_official_kit(tmp_path: Path) -> None:
    truth = read_devkit(write_devkit(tmp_path / "kit.tar.gz"))
    assert tuple(truth.in_order) == LABELS
    assert [(label.wnid, label.name) for label in truth.labels] == IN_LABEL_ORDER


def test_sorted_synsets_are_not_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    """The mistake that gives plausible, wrong labels: the list that a model's labels come with."""
    synsets = write(tmp_path / "synset.txt", *(" ".join(pair) for pair in IN_LABEL_ORDER))
    with pytest.raises(InputError, match="the synsets are sorted, which is the order of labels"):
        read_ground_truth(write(tmp_path / "truth.txt", *NUMBERS), synsets)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["3", "1"], "ILSVRC's own numbers, which are not labels"),
        (["a.JPEG 1", "a.JPEG 2"], "line 2: 'a.JPEG' is listed twice"),
        (["a.JPEG 1", "b.JPEG"], "line 2: expected 'name label'"),
        (["a.JPEG -1"], "'-1' is no number"),
        (["a.JPEG 1", "b.JPEG 1000"], "label 1000 is no class of 0 to 999"),
    ],
)
def test_wrong_lists(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_ground_truth(write(tmp_path / "val.txt", *lines), None)


@pytest.mark.parametrize(
    ("numbers", "synsets", "message"),
    [
        ([0, 1], SYNSETS, "numbers run from 0 to 1, but there are 4 synsets"),
        ([5], SYNSETS, "numbers run from 5 to 5"),
        ([1], [("kit", "fox"), ("tench", "fish")], "needs a WordNet id"),
        ([1], [SYNSETS[0], SYNSETS[0]], "of its own"),
        (["x"], SYNSETS, "'x' is no number"),
    ],
)
def test_wrong_numbers(
    numbers: list[object], synsets: list[tuple[str, str]], message: str, tmp_path: Path
) -> None:
    listed = write(tmp_path / "synsets.txt", *(" ".join(pair) for pair in synsets))
    with pytest.raises(InputError, match=message):
        read_ground_truth(write(tmp_path / "truth.txt", *numbers), listed)


def test_synsets_without_a_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--synsets has no effect"):
        read_ground_truth(write(tmp_path / "val.txt", "a.JPEG 1"), tmp_path / "synsets.txt")


def test_wrong_kits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_devkit(tmp_path / "gone.tar.gz")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="is no readable archive"):
        read_devkit(tmp_path / "text")
    with pytest.raises(InputError, match=r"holds no data/ILSVRC2012_validation_ground_truth\.txt"):
        read_devkit(write_tar(tmp_path / "empty.tar", {"a": b""}))
    with pytest.raises(InputError, match=r"its data/meta\.mat cannot be read"):
        read_devkit(write_devkit(tmp_path / "damaged.tar.gz", meta=b"MATLAB 5.0 or not"))
    whole = write_devkit(tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"download it again|holds no"):
        read_devkit(tmp_path / "half.tar.gz")


def test_the_numbers_count_and_not_the_order_of_the_table(tmp_path: Path) -> None:
    kit = write_devkit(tmp_path / "kit.tar.gz", meta=meta_mat(backwards=True))
    assert tuple(read_devkit(kit).in_order) == LABELS


@pytest.mark.robustness(
    "Data", "the development kit is a pipe or an endless device", "refused at once by what it is", times=2
)
@pytest.mark.parametrize(("name", "kind"), [("kit", "pipe"), ("/dev/zero", "device")])
def test_kits_that_are_no_files(name: str, kind: str, tmp_path: Path) -> None:
    if not name.startswith("/"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"^--devkit .*{name}: is a {kind}"):
        read_devkit(tmp_path / name)
