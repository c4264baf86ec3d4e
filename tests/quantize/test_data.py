"""How images become batches, and what is refused or told before any work."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.data import evaluation_data, performance_batch
from quantize.errors import InputError
from tests.quantize.image_samples import EXTENT, SIGNATURE, TRANSFORM, configured, folders, load

# Batches and threads.


def test_a_fixed_batch_wins_and_is_told_once(many: Path, few: Path) -> None:
    fixed = dataclasses.replace(SIGNATURE, input_shape=(4, 3, EXTENT, EXTENT))
    config = configured(
        folders(many), folders(few), batch_size=6, calibration_batch_size=6, performance_batch_size=3
    )
    data = load(config, fixed)
    assert data.calibration.batch_size == data.evaluation.batch_size == 4
    assert data.warnings == ("the model takes batches of 4; batch_size 6 is not used",)
    assert evaluation_data(config, fixed, progress=False).warnings == data.warnings
    batch, warnings = performance_batch(config, fixed)
    assert batch.shape == (4, 3, EXTENT, EXTENT)
    assert warnings == ("the model takes batches of 4; batch_size 3 is not used",)
    two = load(config.with_overrides({"evaluation.accuracy.dataloader.batch_size": 2}), fixed)
    assert two.warnings == ("the model takes batches of 4; batch_size 2 and 6 are not used",)


def test_a_fixed_batch_that_contradicts_nothing_is_no_news(many: Path, few: Path) -> None:
    fixed = dataclasses.replace(SIGNATURE, input_shape=(4, 3, EXTENT, EXTENT))
    assert load(configured(folders(many), folders(few)), fixed).warnings == ()
    assert load(configured(folders(many), folders(few), batch_size=4), fixed).warnings == ()
    data = load(configured(folders(many), folders(few), batch_size=6, calibration_batch_size=5))
    assert (data.calibration.batch_size, data.evaluation.batch_size, data.warnings) == (5, 4, ())


@pytest.mark.parametrize("size", [1, 5, 15])
def test_images_for_speed_repeat_where_they_run_out(size: int, many: Path, few: Path) -> None:
    config = configured(folders(many), folders(few), performance_batch_size=size)
    batch, warnings = performance_batch(config, SIGNATURE)
    assert (batch.shape, batch.dtype, warnings) == ((size, 3, EXTENT, EXTENT), np.float32, ())
    whole = np.concatenate([images for images, _ in load(config).evaluation])
    np.testing.assert_array_equal(batch, whole[np.arange(size) % 12])


def test_threads_limit_the_decoding(many: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = []

    class Pool:
        def __init__(self, count: int, **_: object) -> None:
            workers.append(count)
            raise KeyboardInterrupt

    data = load(configured(folders(many), folders(few), threads=3))
    monkeypatch.setattr("calibration.ahead.ThreadPoolExecutor", Pool)
    for loader in (data.calibration, data.evaluation):
        with pytest.raises(KeyboardInterrupt):
            list(loader)
    assert workers == [3, 3]


def test_photographs_stay_as_they_are_where_the_configuration_says(many: Path, few: Path) -> None:
    dataset = {"ImageFolder": {"root": str(few), "exif_orientation": False}}
    data = load(configured(folders(many), dataset))
    assert (data.calibration.exif_orientation, data.evaluation.exif_orientation) == (True, False)


# What does not fit the model.


@pytest.mark.parametrize(
    ("classes", "transform", "message"),
    [
        (3, {}, r"labels run from 0 to 3, but the model has 3 classes \(0 to 2\)"),
        (4, {"LabelShift": {"label_shift": -1}}, "labels run from 1 to 4"),
        (9, {"LabelShift": {"label_shift": 1}}, "labels run from -1 to 2"),
        (4, {"CenterCrop": {"size": 8}}, "makes 3x8x8, but the model's input 'image' takes 3x12x12"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    classes: int, transform: dict[str, Any], message: str, many: Path, few: Path
) -> None:
    signature = dataclasses.replace(SIGNATURE, classes=classes)
    config = configured(folders(many), folders(few), transform={**transform, **TRANSFORM})
    for refuses in (
        lambda: load(config, signature),
        lambda: evaluation_data(config, signature, progress=False),
        lambda: performance_batch(
            config.with_overrides({"evaluation.performance.dataloader.batch_size": 12}), signature
        ),
    ):
        with pytest.raises(InputError, match=message):
            refuses()


def test_labels_are_not_judged_where_the_model_does_not_say(many: Path, few: Path) -> None:
    load(configured(folders(many), folders(few)), dataclasses.replace(SIGNATURE, classes=None))
    shifted = {**TRANSFORM, "LabelShift": {"label_shift": -1}}
    data = load(
        configured(folders(many), folders(few), transform=shifted), dataclasses.replace(SIGNATURE, classes=5)
    )
    assert {int(label) for _, labels in data.evaluation for label in labels} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("transform", "shape", "message"),
    [
        ({"Rescale": {}}, (None, 3, EXTENT, EXTENT), "makes 12x12x3 of {file}, but the model's input"),
        (TRANSFORM, (None, 3, 16, None), r"makes 3x12x12 of {file}, .* takes 3x16x\?"),
        ({"Rescale": {}}, (1, EXTENT, EXTENT, 1), "makes 12x12x3 of {file}"),
    ],
)
def test_without_a_size_in_the_transforms_the_first_image_tells(
    transform: dict[str, Any], shape: tuple[int | None, ...], message: str, many: Path, few: Path
) -> None:
    signature = dataclasses.replace(SIGNATURE, input_shape=shape)
    with pytest.raises(InputError, match=message.format(file=re.escape(str(many)) + r"/\d/\d+\.png")):
        load(configured(folders(many), folders(few), transform=transform), signature)
    load(configured(folders(many), folders(few)), dataclasses.replace(SIGNATURE, input_shape=(None,) * 4))
