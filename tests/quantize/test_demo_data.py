"""The folder of the bundled example's pictures: complete, honest about the split, and never half written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.digits import HELD_OUT_COUNT, load_strokes, render_digit, split_digits
from quantize import demo_data
from quantize.demo_data import DigitsDataset, write_digits_dataset
from quantize.errors import InputError

CALIBRATION = 30
EVALUATION = 50


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.rglob("*.png"))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DigitsDataset:
    root = tmp_path_factory.mktemp("digits") / "set"
    return write_digits_dataset(root, calibration_count=CALIBRATION, evaluation_count=EVALUATION)


@pytest.fixture
def dataset(pristine: DigitsDataset, tmp_path: Path) -> DigitsDataset:
    shutil.copytree(pristine.root, tmp_path / "set")
    return DigitsDataset(tmp_path / "set", CALIBRATION, EVALUATION, pristine.sha256)


def again(dataset: DigitsDataset) -> DigitsDataset:
    return write_digits_dataset(dataset.root, calibration_count=CALIBRATION, evaluation_count=EVALUATION)


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an intact folder was drawn again")

    monkeypatch.setattr(demo_data, "render_digit", fail)


def test_the_full_set_has_all_held_out_digits_and_two_hundred_training_digits(tmp_path: Path) -> None:
    dataset = write_digits_dataset(tmp_path / "new folder" / "set")
    training, held_out = split_digits(load_strokes()[1])
    assert numbers(dataset.evaluation) == held_out.tolist()
    assert len(numbers(dataset.calibration)) == dataset.calibration_count == 200
    assert set(numbers(dataset.calibration)) <= set(training.tolist())
    assert dataset.evaluation_count == HELD_OUT_COUNT == 797


def test_pictures_lie_in_the_folder_of_their_class_with_the_pixels_of_render_digit(
    pristine: DigitsDataset,
) -> None:
    strokes, labels = load_strokes()
    for folder in (pristine.calibration, pristine.evaluation):
        assert sorted(p.name for p in folder.iterdir()) == [str(c) for c in range(10)]
        for path in sorted(folder.rglob("*.png"))[::7]:
            index = int(path.stem)
            assert path.parent.name == str(labels[index])
            with Image.open(path) as picture:
                assert picture.mode == "RGB"
                np.testing.assert_array_equal(np.asarray(picture), render_digit(strokes[index], index))


def test_every_class_has_its_share(pristine: DigitsDataset) -> None:
    # Classes are 9.7 % to 10.2 % of the digits, so that shares of 50 are 5, and of 30 are 3.
    assert {len(list(f.iterdir())) for f in pristine.evaluation.iterdir()} == {5}
    assert {len(list(f.iterdir())) for f in pristine.calibration.iterdir()} == {3}


def test_two_folders_are_byte_identical(pristine: DigitsDataset, tmp_path: Path) -> None:
    other = write_digits_dataset(
        str(tmp_path / "other"), calibration_count=CALIBRATION, evaluation_count=EVALUATION
    )
    assert contents(other.root) == contents(pristine.root)
    assert other.sha256 == pristine.sha256


@pytest.mark.usefixtures("no_drawing")
def test_an_intact_folder_is_used_as_it_is(dataset: DigitsDataset) -> None:
    (dataset.calibration / ".DS_Store").write_bytes(b"left by a file browser")
    before = {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*")}
    assert again(dataset) == dataset
    assert {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*")} == before


@pytest.mark.parametrize("damage", ["lost", "truncated", "changed", "moved", "manifest", "manifest type"])
def test_a_damaged_folder_is_repaired(dataset: DigitsDataset, pristine: DigitsDataset, damage: str) -> None:
    victim = min(dataset.evaluation.rglob("*.png"))
    manifest = dataset.root / "manifest.json"
    if damage == "lost":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:100])
    elif damage == "changed":
        Image.new("RGB", (64, 64)).save(victim)
    elif damage == "moved":
        os.replace(victim, victim.parent.parent / "9" / victim.name)
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:20])
    else:
        manifest.write_text("[]")
    assert again(dataset) == dataset
    assert contents(dataset.root) == contents(pristine.root)
    assert [p.name for p in dataset.root.parent.iterdir()] == ["set"], "temporary files were left behind"


def test_other_counts_replace_the_set(dataset: DigitsDataset) -> None:
    smaller = write_digits_dataset(dataset.root, calibration_count=10, evaluation_count=20)
    assert (len(numbers(smaller.calibration)), len(numbers(smaller.evaluation))) == (10, 20)
    assert json.loads((dataset.root / "manifest.json").read_text())["evaluation_count"] == 20


def test_files_of_others_are_not_touched(dataset: DigitsDataset, tmp_path: Path) -> None:
    mine = dataset.evaluation / "3" / "my photo.png"
    mine.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"my photo\.png"):
        again(dataset)
    assert mine.read_bytes() == b"precious"

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(InputError, match="holds other files"):
        write_digits_dataset(tmp_path / "thesis")

    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match="is a file"):
        write_digits_dataset(tmp_path / "file")


def test_an_interrupted_run_leaves_what_was_there(
    dataset: DigitsDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(dataset.root)
    drawn = 0

    def interrupted(*arguments: object) -> np.ndarray:
        nonlocal drawn
        drawn += 1
        if drawn > 5:
            raise KeyboardInterrupt
        return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr(demo_data, "render_digit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_digits_dataset(dataset.root, calibration_count=20, evaluation_count=20)
    assert contents(dataset.root) == before
    assert [p.name for p in dataset.root.parent.iterdir()] == ["set"]


def test_losing_a_race_to_another_process_is_fine(
    pristine: DigitsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    drawing = demo_data._write_pictures

    def overtaken(folder: Path, wanted: dict[str, int]) -> None:
        drawing(folder, wanted)
        shutil.copytree(pristine.root, root)

    monkeypatch.setattr(demo_data, "_write_pictures", overtaken)
    result = write_digits_dataset(root, calibration_count=CALIBRATION, evaluation_count=EVALUATION)
    assert result.sha256 == pristine.sha256
    assert contents(root) == contents(pristine.root)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_losing_the_race_at_the_last_step_is_fine_too(
    pristine: DigitsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"

    def overtaken(source: Path, destination: Path) -> None:
        shutil.copytree(pristine.root, root)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(demo_data.os, "replace", overtaken)
    result = write_digits_dataset(root, calibration_count=CALIBRATION, evaluation_count=EVALUATION)
    assert result.sha256 == pristine.sha256
    assert contents(root) == contents(pristine.root)


def test_a_failed_move_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, destination: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo_data.os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_digits_dataset(tmp_path / "set", calibration_count=10, evaluation_count=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "counts",
    [
        {"calibration_count": 9},
        {"calibration_count": 1001},
        {"evaluation_count": 798},
        {"evaluation_count": 0},
    ],
)
def test_impossible_counts_are_refused(tmp_path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(counts))}: {next(iter(counts.values()))}"):
        write_digits_dataset(tmp_path / "set", **counts)


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_digits_dataset(tmp_path / "file" / "set", calibration_count=10, evaluation_count=10)
