"""Trials on large sets are abandoned when they have missed, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.transforms import build_pipeline
from quantize import judging
from quantize.baseline import Baseline
from quantize.criterion import Criterion
from quantize.judging import Abandonment, AccuracyJudge
from quantize.session import make_session, outputs
from tests.quantize.models import shifted

PIPELINE = build_pipeline({"Rescale": None, "Transpose": {"perm": [2, 0, 1]}})
COUNT = 240
CRITERION = Criterion("relative", 0.02)


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory, make_classifier: Any) -> DataLoader:
    """Images whose labels are what the classifier says, but for every sixth."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(4)
    names = tuple(f"{index:03}.png" for index in range(COUNT))
    for name in names:
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name)
    blank = DataLoader(ImageSet(folder, names, (0,) * COUNT, "test"), PIPELINE, batch_size=5)
    pixels = np.concatenate([batch for batch, _ in blank])
    labels = outputs(make_session(make_classifier(), threads=1), pixels).argmax(1)
    labels[::6] = (labels[::6] + 1) % 7
    return DataLoader(ImageSet(folder, names, tuple(labels.tolist()), "test"), PIPELINE, batch_size=5)


def judge_of(loader: DataLoader, model: onnx.ModelProto, folder: Path, workers: int = 2) -> AccuracyJudge:
    path = folder / "fp32.onnx"
    onnx.save(model, path)
    return AccuracyJudge(
        loader,
        CRITERION,
        threads=workers,
        baseline=Baseline(path, loader, workers=workers),
        abandonment=Abandonment(0.999, seed=1),
    )


@pytest.fixture
def small_sets_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "LEAST_IMAGES", COUNT)


@pytest.mark.usefixtures("small_sets_count")
def test_a_bad_trial_is_abandoned_and_misses(
    loader: DataLoader, make_classifier: Any, tmp_path: Path
) -> None:
    model = make_classifier()
    found = []
    for workers in (1, 3):
        judge = judge_of(loader, model, tmp_path, workers)
        fp32 = judge(model)
        assert fp32 == pytest.approx(200 / 240)
        bad = judge(shifted(model, 100.0, score=3))
        assert list(judge.abandoned) == [1]
        assert judge.abandoned[1] < COUNT / 2
        assert not CRITERION.met(fp32, bad)
        found.append((bad, judge.abandoned))
    assert found[0] == found[1]  # whatever the number of workers


@pytest.mark.usefixtures("small_sets_count")
def test_a_good_trial_is_judged_on_every_image(
    loader: DataLoader, make_classifier: Any, tmp_path: Path
) -> None:
    model = make_classifier()
    judge = judge_of(loader, model, tmp_path)
    fp32 = judge(model)
    nearly = shifted(model, 1e-4, score=3)
    assert CRITERION.met(fp32, judge(nearly))
    assert judge.abandoned == {}
    plain = AccuracyJudge(loader, CRITERION, threads=1)
    assert judge(nearly) == plain(nearly)


def test_small_sets_are_always_judged_whole(loader: DataLoader, make_classifier: Any, tmp_path: Path) -> None:
    model = make_classifier()
    judge = judge_of(loader, model, tmp_path)
    judge(model)
    judge(shifted(model, 100.0, score=3))
    assert judge.abandoned == {}
