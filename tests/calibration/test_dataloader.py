"""Batches: order, shapes, repeatability, bounded look-ahead, errors, and a clean end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from calibration import dataloader, prepared
from calibration.dataloader import DataLoader
from calibration.decode import decoded
from calibration.errors import InputError
from calibration.images import ImageSet, read_image_list
from calibration.store import Store
from calibration.transforms import build_pipeline

PIPELINE = build_pipeline({"Resize": {"size": 4}, "Rescale": None, "Transpose": {"perm": [2, 0, 1]}})
UNSIZED = build_pipeline({"Rescale": None})


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Eleven images; all pixels of image i are i, and so is its label."""
    for index in range(11):
        Image.new("RGB", (8, 6), (index,) * 3).save(tmp_path / f"{index}.png")
    return ImageSet(tmp_path, tuple(f"{index}.png" for index in range(11)), tuple(range(11)), "test")


def calibration_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("calibration")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not calibration_threads()


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_batches_in_order(images: ImageSet, workers: int, batch_size: int) -> None:
    loader = DataLoader(images, PIPELINE, batch_size=batch_size, workers=workers)
    batches = list(loader)
    assert loader.batch_size == batch_size
    assert len(batches) == len(loader)
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
    inputs = np.concatenate([batch for batch, _ in batches])
    labels = np.concatenate([batch for _, batch in batches])
    assert (inputs.shape, inputs.dtype, labels.dtype) == ((11, 3, 4, 4), np.float32, np.int64)
    assert labels.tolist() == list(range(11))
    np.testing.assert_array_equal(np.rint(inputs[:, 0, 0, 0] * 255), labels)
    assert all(batch.flags["C_CONTIGUOUS"] for batch, _ in batches)


def test_can_be_iterated_again_and_at_the_same_time(images: ImageSet) -> None:
    loader = DataLoader(images, PIPELINE, workers=2)
    first, second = list(loader), list(loader)
    for (one, _), (two, _), (three, _), (four, _) in zip(first, second, loader, loader, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(three, four)


def test_empty_set_gives_no_batches(images: ImageSet) -> None:
    loader = DataLoader(images.subset([]), PIPELINE)
    assert len(loader) == 0
    assert list(loader) == []


def test_look_ahead_is_bounded(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def counting(path: Path, *, exif_orientation: bool) -> AbstractContextManager[Image.Image]:
        started.append(path)
        return decoded(path, exif_orientation=exif_orientation)

    monkeypatch.setattr(prepared, "decoded", counting)
    for taken, _ in enumerate(DataLoader(images, PIPELINE, workers=2, prefetch_images=3), start=1):
        # What is started is what was taken plus at most three, however long the consumer waits.
        assert taken <= len(started) <= taken + 3
    assert started and len(started) == 11


def test_early_stop_ends_the_threads(images: ImageSet) -> None:
    batches = iter(DataLoader(images, PIPELINE, workers=3))
    next(batches)
    assert calibration_threads()
    batches.close()
    assert not calibration_threads()
    for _ in DataLoader(images, PIPELINE, workers=3):
        break


def test_interrupt_ends_the_threads(images: ImageSet) -> None:
    def interrupted() -> None:
        for _ in DataLoader(images, PIPELINE, workers=3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not calibration_threads()


def test_damaged_image_is_named_when_its_turn_comes(images: ImageSet) -> None:
    images.path(3).write_bytes(b"")
    batches = iter(DataLoader(images, PIPELINE, workers=2))
    assert [next(batches)[1].item() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match=r"3\.png: is empty, damaged, or no image"):
        next(batches)


def test_image_that_cannot_be_transformed_is_named(images: ImageSet) -> None:
    pipeline = build_pipeline({"CenterCrop": {"size": 7}, "Rescale": None})
    with pytest.raises(InputError, match=r"0\.png: transform CenterCrop: cannot crop 7x7 out of 6x8"):
        list(DataLoader(images, pipeline))


def test_unforeseen_errors_name_the_image_and_keep_their_cause(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no\nway")

    monkeypatch.setattr("calibration.transforms.geometry.opencv_resized", broken)
    with pytest.raises(InputError, match=r"0\.png: cannot be transformed: no way") as caught:
        list(DataLoader(images, PIPELINE))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("batch_size", [1, 11])
def test_images_of_other_shape_are_named(images: ImageSet, batch_size: int) -> None:
    Image.new("RGB", (5, 6)).save(images.path(4))
    with pytest.raises(
        InputError, match=r"4\.png: .* \[6, 5, 3\], but .*0\.png as \[6, 8, 3\]: add CenterCrop"
    ):
        list(DataLoader(images, UNSIZED, batch_size=batch_size))


def test_problems_are_told_by_position_and_the_good_images_are_not_touched(images: ImageSet) -> None:
    images.path(3).write_bytes(b"")
    images.path(7).unlink()
    Image.new("RGB", (5, 6)).save(images.path(9))
    found = DataLoader(images, PIPELINE).problems()  # makes all of one size
    assert sorted(found) == [3, 7]
    assert found[3].startswith("is empty, damaged, or no image")
    assert found[7] == "there is no such image file"
    found = DataLoader(images, UNSIZED, workers=2).problems()
    assert sorted(found) == [3, 7, 9]
    assert found[9].startswith("comes out of the transforms as [6, 5, 3], but ")
    assert found[9].endswith("0.png as [6, 8, 3]: add CenterCrop or Resize")


def test_problems_of_steps_that_are_not_cached_are_found(images: ImageSet, tmp_path: Path) -> None:
    Image.new("RGB", (30_000, 1)).save(images.path(4))
    whole = build_pipeline({"ResizeCropImagenet": {"height": 4, "width": 4}})
    store = Store(tmp_path / "cache", limit_bytes=10**8, warn=pytest.fail)
    for _ in range(2):  # the pixels before those steps are in the cache the second time, and are no proof
        (told,) = DataLoader(images, whole, store=store).problems().items()
        assert told[0] == 4
        assert "too elongated" in told[1]


def test_exif_orientation_can_be_switched_off(images: ImageSet) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (8, 6)).save(images.path(0), exif=exif)
    first = images.subset([0])
    assert next(iter(DataLoader(first, UNSIZED)))[0].shape == (1, 8, 6, 3)
    assert next(iter(DataLoader(first, UNSIZED, exif_orientation=False)))[0].shape == (1, 6, 8, 3)


@pytest.mark.parametrize("name", ["batch_size", "workers", "prefetch_images"])
def test_counts_are_checked(images: ImageSet, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0: give 1 or more"):
        DataLoader(images, PIPELINE, **{name: 0})


def test_transforms_must_end_in_float32(images: ImageSet) -> None:
    with pytest.raises(InputError, match="transforms end in uint8"):
        DataLoader(images, build_pipeline({"Resize": {"size": 4}}))


def test_default_workers_without_affinity(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dataloader.os, "sched_getaffinity", raising=False)
    assert len(list(DataLoader(images, PIPELINE))) == 11


def test_progress_counts_images_and_says_done(images: ImageSet, capsys: pytest.CaptureFixture[str]) -> None:
    list(DataLoader(images, PIPELINE, batch_size=4, progress=True, description="calibrating"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "calibrating: 11 images"
    assert lines[-1].startswith("calibrating: done 11 images")


def test_early_stop_is_reported(images: ImageSet, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in DataLoader(images, PIPELINE, progress=True, description="calibrating"):
        break
    assert "stopped after" in capsys.readouterr().err.splitlines()[-1]


def test_workers_do_not_change_the_result_on_real_images(shared_dir: Path) -> None:
    sample = shared_dir / "imagenet-sample"
    images = read_image_list(sample / "images", sample / "val.txt").subset(range(0, 500, 20))
    pipeline = build_pipeline(
        {
            "ResizeShortest": {"size": 256},
            "CenterCrop": {"size": 224},
            "Rescale": {},
            "Transpose": {"perm": [2, 0, 1]},
        }
    )
    results = [next(iter(DataLoader(images, pipeline, batch_size=25, workers=workers))) for workers in (1, 3)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1].tolist() == results[1][1].tolist() == list(images.labels)
