"""What the search hands to the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import quantize.measuring
import quantize.search
from quantize.config import Config
from quantize.data import Data
from quantize.engine import EngineOptions, EngineResult, Task, Trial
from quantize.search import search
from quantize.source import Source, read_source
from quantize.stages import Stages
from quantize.target import PORTABLE
from tests.quantize.conftest import ModelMaker
from tests.quantize.image_samples import configured, folders, load, write_folders

EXTENT = 8  # of the classifier that `make_classifier` makes


class Engine:
    """Stands in for the engine: notes what it was asked, and reports one trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.task: Task | None = None
        self.options: EngineOptions | None = None

    def tune(self, task: Task, options: EngineOptions, listener: Callable[[Trial], None]) -> EngineResult:
        self.task, self.options = task, options
        listener(self.trial)
        warnings = ("nothing came of it",)
        trials = (self.trial,)
        return EngineResult(
            onnx.ModelProto(), task.model, True, self.trial, trials, 0.9, (), {}, "criterion", warnings
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    trial = Trial(3, 0.875, 0.0, True, ("minmax",), True, ("conv_2",), 0.1)
    engine = Engine(trial)
    monkeypatch.setattr("quantize.search.engine.tune", engine.tune)
    return engine


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("images"), 40, extent=EXTENT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_classifier: ModelMaker) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(make_classifier(), path)
    return path


def searched(config: Config, model: Path, verbosity: Any = "quiet") -> tuple[Source, Data]:
    source = read_source(model, config)
    data = load(config, source.signature)
    search(config, source, data, Stages(verbosity))
    return source, data


def test_defaults_reach_the_engine(images: Path, model: Path, engine: Engine) -> None:
    config = configured(folders(images), folders(images))
    searched(config, model)
    expected = EngineOptions(criterion=config.criterion, calibration_samples=10)
    assert engine.options == expected


def test_every_option_reaches_the_engine(images: Path, model: Path, engine: Engine, tmp_path: Path) -> None:
    changes: dict[str, object] = {
        "tuning.strategy.name": "bayesian",
        "tuning.exit_policy.max_trials": 17,
        "tuning.exit_policy.timeout": 2.5,
        "tuning.random_seed": 77,
        "tuning.workspace.path": tmp_path / "here",
        "tuning.accuracy_criterion": {"absolute": 0.125},
        "quantization.op_wise": {"conv_1": {"activation": {"dtype": ["fp32"]}}},
    }
    config = configured(folders(images), folders(images), calibration_samples=6).with_overrides(changes)
    searched(config, model, "verbose")
    assert engine.options is not None
    assert engine.options == EngineOptions(
        criterion=config.criterion,
        strategy="bayesian",
        max_trials=17,
        timeout_s=2.5,
        seed=77,
        calibration_samples=6,
        op_wise=engine.options.op_wise,
        workspace=tmp_path / "here",
        verbose=True,
    )
    assert engine.options.criterion.tolerance == 0.125
    assert list(engine.options.op_wise) == ["conv_1"]


def test_the_task_is_the_model_and_its_images(images: Path, model: Path, engine: Engine) -> None:
    config = configured(folders(images), folders(images), batch_size=3)
    source, data = searched(config, model)
    task = engine.task
    assert task is not None
    assert task.model is source.prepared
    assert task.inventory is source.inventory
    assert task.target is PORTABLE
    assert task.loader is data.calibration
    assert not task.progress
    # The input's range is that of the calibration images, and of no others.
    pixels = [images.min(axis=(1, 2, 3)) for images, _ in data.calibration]
    np.testing.assert_array_equal(task.ranges.extremes.lows["image"], np.concatenate(pixels))
    # The judge counts the evaluation images.
    session = ort.InferenceSession(source.prepared.SerializeToString(), providers=["CPUExecutionProvider"])
    right = [
        session.run(None, {"image": images})[0].argmax(axis=1) == labels for images, labels in data.evaluation
    ]
    assert task.judge(source.prepared) == np.concatenate(right).mean()
    assert task.divergence(source.prepared) == pytest.approx(0.0, abs=1e-9)
    ranges = task.ranges.scale("image", "kl")  # takes the second pass over the images
    assert 0 < ranges.scale <= 1 / 255 * 1.01


def test_threads_reach_every_step(
    images: Path, model: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, int] = {}

    def noting(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **settings: Any) -> Any:
            threads[name] = settings["threads"]
            return step(*given, **settings)

        return call

    measuring = dict.fromkeys(["collect_extremes", "collect_histograms"], quantize.measuring)
    steps = measuring | dict.fromkeys(["AccuracyJudge", "CalibrationDivergence"], quantize.search)
    for name, module in steps.items():
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    searched(configured(folders(images), folders(images), threads=3), model)
    assert engine.task is not None
    engine.task.ranges.scale("image", "kl")
    assert threads == dict.fromkeys(steps, 3)


def test_what_a_person_sees(
    images: Path, model: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(configured(folders(images), folders(images)), model, "normal")
    err = capsys.readouterr().err
    assert engine.task is not None
    assert engine.task.progress
    assert (
        "trial 3: ranges minmax, 1 in fp32: top-1 87.50%, meets the criterion\nwarning: nothing came of it\n"
        in err
    )
