"""Which images each side gets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibration.images import ImageSet
from quantize.data import Data, evaluation_data
from quantize.errors import InputError
from tests.quantize.image_samples import SIGNATURE, configured, folders, listed, load


def real_files(images: ImageSet) -> set[Path]:
    return {images.path(index).resolve() for index in range(len(images))}


def shared(data: Data) -> int:
    return len(real_files(data.calibration.images) & real_files(data.evaluation.images))


# Who gets which images.


@pytest.mark.parametrize("dataset", [folders, listed], ids=["ImageFolder", "ImagenetRaw"])
def test_one_source_is_shared_out(dataset: Any, many: Path) -> None:
    data = load(configured(dataset(many), dataset(many)))
    assert (len(data.calibration.images), len(data.evaluation.images)) == (10, 30)
    assert (shared(data), data.overlap_images, data.warnings) == (0, 0, ())
    limited = load(configured(dataset(many), dataset(many), eval_samples=7))
    assert len(limited.evaluation.images) == 7
    with pytest.raises(InputError, match=r"40 images, too few for 10 to calibrate and 31"):
        load(configured(dataset(many), dataset(many), eval_samples=31))


@pytest.mark.parametrize("dataset", [folders, listed], ids=["ImageFolder", "ImagenetRaw"])
def test_two_sources_keep_to_themselves(dataset: Any, many: Path, few: Path) -> None:
    data = load(configured(dataset(many), dataset(few)))
    assert data.calibration.images.root == many
    assert data.evaluation.images.root == few
    assert (len(data.calibration.images), len(data.evaluation.images)) == (10, 12)
    assert data.warnings == ()
    limited = load(configured(dataset(few), dataset(many), eval_samples=7))
    assert (len(limited.calibration.images), len(limited.evaluation.images)) == (10, 7)


def test_what_is_loaded_is_what_the_files_show(many: Path, few: Path) -> None:
    data = load(configured(listed(many), folders(few), batch_size=5))
    made = [(images, labels) for images, labels in data.evaluation]
    # Smaller pieces than were asked for, when several are under way at once.
    assert [len(labels) for _, labels in made] == [4, 4, 4]
    files = data.evaluation.images
    expected = [
        np.asarray(Image.open(files.path(i)), np.float32).transpose(2, 0, 1) / 255 for i in range(len(files))
    ]
    np.testing.assert_allclose(np.concatenate([images for images, _ in made]), expected, atol=1e-6)
    assert np.concatenate([labels for _, labels in made]).tolist() == [
        int(name.split("/")[0]) for name in files.files
    ]


def test_the_seed_chooses(many: Path, few: Path) -> None:
    chosen = [
        load(configured(folders(many), folders(few), seed=s)).calibration.images.files for s in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    limited = [
        load(configured(folders(few), folders(many), seed=s, eval_samples=8)).evaluation.images.files
        for s in (1, 1, 2)
    ]
    assert limited[0] == limited[1] != limited[2]
    halves = [
        load(configured(folders(many), folders(many), seed=s)).calibration.images.files for s in (1, 1, 2)
    ]
    assert halves[0] == halves[1] != halves[2]


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_evaluating_alone_uses_the_images_of_the_main_job(
    same: bool, overlapping: bool, many: Path, few: Path
) -> None:
    config = configured(
        folders(many), folders(many if same else few), allow_overlap=overlapping, eval_samples=6, batch_size=4
    )
    whole = load(config)
    alone = evaluation_data(config, SIGNATURE, progress=False)
    assert (alone.loader.images.root, alone.loader.images.files) == (
        whole.evaluation.images.root,
        whole.evaluation.images.files,
    )
    assert alone.loader.batch_size == 4
    assert alone.warnings == whole.warnings


# Images that both sides name.


def test_overlap_that_is_allowed_is_told(many: Path) -> None:
    data = load(configured(folders(many), folders(many), allow_overlap=True))
    assert len(data.evaluation.images) == 40
    assert data.overlap_images == shared(data) == 10
    assert data.warnings == ("10 of 40 evaluation images were calibrated on too, which flatters accuracy",)


@pytest.mark.parametrize("case", ["copied list", "linked list", "linked folder", "other kind"])
def test_overlap_that_nobody_asked_for_is_left_out(case: str, many: Path, tmp_path: Path) -> None:
    other = listed(many)
    if case == "copied list":
        shutil.copy(many / "val.txt", tmp_path / "other.txt")
        other = listed(many, tmp_path / "other.txt")
    elif case == "linked list":
        (tmp_path / "link.txt").symlink_to(many / "val.txt")
        other = listed(many, tmp_path / "link.txt")
    elif case == "linked folder":
        (tmp_path / "link").symlink_to(many)
        other = listed(tmp_path / "link")
    for calibration, evaluation in (
        (folders(many) if case == "other kind" else listed(many), other),
        (other, folders(many) if case == "other kind" else listed(many)),
    ):
        data = load(configured(calibration, evaluation))
        assert (shared(data), data.overlap_images) == (0, 0)
        assert (len(data.calibration.images), len(data.evaluation.images)) == (10, 30)
        assert data.warnings == ("10 evaluation images are calibrated on; they are left out of the judging",)
        told = load(configured(calibration, evaluation, allow_overlap=True))
        assert (len(told.evaluation.images), told.overlap_images) == (40, 10)


def test_what_is_left_out_is_replaced_where_it_can_be(many: Path, tmp_path: Path) -> None:
    shutil.copy(many / "val.txt", tmp_path / "other.txt")
    other = listed(many, tmp_path / "other.txt")
    data = load(configured(listed(many), other, eval_samples=30))
    assert len(data.evaluation.images) == 30
    assert len(data.warnings) == 1
    lacking = load(configured(listed(many), other, eval_samples=40))
    assert lacking.warnings[1] == "only 30 evaluation images are there; 40 were asked for"


def test_one_image_left_out_is_told_in_the_singular(many: Path, few: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("0/000.png 0\n")
    data = load(configured(listed(few, tmp_path / "one.txt"), listed(few), calibration_samples=1))
    assert data.warnings == ("1 evaluation image is calibrated on; it is left out of the judging",)


def test_nothing_left_to_judge_is_refused(few: Path, tmp_path: Path) -> None:
    shutil.copy(few / "val.txt", tmp_path / "other.txt")
    with pytest.raises(InputError, match="all 12 evaluation images are calibrated on") as caught:
        load(configured(listed(few), listed(few, tmp_path / "other.txt"), calibration_samples=50))
    assert "--allow_overlap" in str(caught.value)
    assert "\n" not in str(caught.value)


# Fewer images than were asked for.


def test_too_few_images_are_told(many: Path, few: Path) -> None:
    assert load(configured(folders(few), folders(many), calibration_samples=50)).warnings == (
        "only 12 calibration images are there; 50 were asked for",
    )
    config = configured(folders(many), folders(few), eval_samples=5000)
    expected = ("only 12 evaluation images are there; 5000 were asked for",)
    assert load(config).warnings == expected
    assert evaluation_data(config, SIGNATURE, progress=False).warnings == expected
