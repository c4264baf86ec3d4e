"""The commands that measure one model: what they hand on, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from quantize import measure
from quantize.benchmark import Latency, Performance
from quantize.config import Config
from quantize.measure import run_benchmark, run_evaluate
from tests.quantize.conftest import ModelMaker
from tests.quantize.image_samples import CLASSES, configured, folders, listed, write_folders

EXTENT = 8  # of the classifier that `make_classifier` makes
PERFORMANCE = "evaluation.performance"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("images"), 40, extent=EXTENT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_classifier: ModelMaker) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(make_classifier(), path)
    return path


class Stopwatch:
    """Stands in for `benchmark`: notes what it was asked, answers with round numbers."""

    def __init__(self) -> None:
        self.path = Path()
        self.batch = np.zeros(0, np.float32)
        self.settings: dict[str, Any] = {}

    def __call__(self, path: Path, batch: Any, **settings: Any) -> Performance:
        self.path, self.batch, self.settings = path, batch, settings
        return Performance(len(batch), 1, 1, 0, Latency(9, 1.5, 2.5, 3.5), 1234.5)


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stopwatch = Stopwatch()
    monkeypatch.setattr("quantize.measure.benchmark", stopwatch)
    return stopwatch


def benchmarked(config: Config, model: Path, fields: dict[str, object]) -> None:
    changed = config.with_overrides({f"{PERFORMANCE}.{name}": value for name, value in fields.items()})
    assert run_benchmark(changed, input_model=model) == 0


def test_the_benchmark_gets_what_is_configured(
    images: Path, model: Path, stopwatch: Stopwatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(folders(images), listed(images), performance_batch_size=3)
    fields = {"warmup": 7, "iteration": 11, "configs": {"cores_per_instance": 2, "num_of_instance": 4}}
    benchmarked(config, model, fields)
    assert stopwatch.path == model
    assert stopwatch.settings == {"threads": 2, "instances": 4, "warmup": 7, "iterations": 11}
    assert (stopwatch.batch.shape, stopwatch.batch.dtype) == ((3, 3, EXTENT, EXTENT), np.float32)
    out, err = capsys.readouterr()
    assert out == (
        "Latency: 1.500 ms median, 2.500 ms p90, 3.500 ms p99, batch size 3\nThroughput: 1234.5 images/s\n"
    )
    assert err == "4 x 2 threads, batch 3, 11 calls each\n"


def test_the_benchmark_without_settings(images: Path, model: Path, stopwatch: Stopwatch) -> None:
    benchmarked(configured(folders(images), folders(images), threads=2), model, {})
    assert stopwatch.settings == {"threads": 2, "instances": 1, "warmup": 5, "iterations": 200}
    assert len(stopwatch.batch) == 1


def test_the_benchmark_takes_the_batch_of_the_model(
    images: Path,
    stopwatch: Stopwatch,
    make_classifier: ModelMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    onnx.save(make_classifier(batch=4), tmp_path / "four.onnx")
    config = configured(folders(images), folders(images), performance_batch_size=6)
    benchmarked(config, tmp_path / "four.onnx", {"warmup": 0})
    assert len(stopwatch.batch) == 4
    assert stopwatch.settings["warmup"] == 0
    err = capsys.readouterr().err
    assert err.count("warning: ") == 1
    assert "warning: the model takes batches of 4; batch_size 6 is not used\n" in err


@pytest.mark.parametrize("batch", ["n", 4])
def test_accuracy_is_an_independent_count(
    batch: int | str,
    images: Path,
    make_classifier: ModelMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_classifier(batch=batch), path)
    elsewhere = write_folders(tmp_path / "elsewhere", 30, seed=4, extent=EXTENT)
    config = configured(folders(images), listed(elsewhere), batch_size=7)
    assert run_evaluate(config, input_model=path) == 0
    top1 = top5 = 0
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for label in range(CLASSES):
        for file in sorted((elsewhere / str(label)).iterdir()):
            pixels = np.asarray(Image.open(file), np.float32).transpose(2, 0, 1) / 255
            repeated = np.repeat(pixels[None], 4, axis=0)
            (scores,) = session.run(None, {"image": repeated})[0][:1]
            better = int((scores > scores[label]).sum())
            top1 += better == 0
            top5 += better < 5
    assert 0 < top1 < top5 < 30, "otherwise this shows nothing"
    out, err = capsys.readouterr()
    assert out == f"Accuracy: {top1 / 30:.4f} top-1, {top5 / 30:.4f} top-5, 30 images\n"
    assert ("batches of 4; batch_size 7 is not used" in err) == (batch == 4)


def test_ties_are_told(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["n", 3, EXTENT, EXTENT]
    node = onnx.helper.make_node("Mul", ["image", "zero"], ["nothing"])
    flat = onnx.helper.make_node("ReduceMax", ["nothing"], ["scores"], axes=[2, 3], keepdims=0)
    graph = onnx.helper.make_graph(
        [node, flat],
        "ties",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", None])],
        [onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "ties.onnx")
    (tmp_path / "two.txt").write_text("0/000.png 0\n1/001.png 1\n")
    config = configured(folders(images), listed(images, tmp_path / "two.txt"), calibration_samples=3)
    run_evaluate(config, input_model=tmp_path / "ties.onnx", verbosity="quiet")
    out, err = capsys.readouterr()
    assert "2 images have more than one best class" in out
    assert err == ""


@pytest.mark.parametrize("command", [run_evaluate, run_benchmark])
def test_warnings_are_printed_unless_quiet(
    command: Any, images: Path, model: Path, stopwatch: Stopwatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(folders(images), listed(images)).with_overrides({"tuning.tensorboard": True})
    command(config, input_model=model)
    err = capsys.readouterr().err
    assert "warning: accepted but without effect here: tuning.tensorboard" in err
    # Speed is measured on any images.
    assert ("warning: 10 evaluation images are calibrated on" in err) == (command is run_evaluate)
    command(config, input_model=model, verbosity="quiet")
    assert capsys.readouterr().err == ""


def test_evaluating_uses_the_configured_threads(
    images: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    make = measure.make_session

    def noting(path: Path, **settings: Any) -> ort.InferenceSession:
        threads.append(settings["threads"])
        return make(path, **settings)

    monkeypatch.setattr(measure, "make_session", noting)
    config = configured(folders(images), folders(images), threads=1)
    run_evaluate(config, input_model=model, verbosity="quiet")
    assert threads == [1]


def test_the_benchmark_in_json(
    images: Path, model: Path, stopwatch: Stopwatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(folders(images), folders(images), threads=2)
    assert run_benchmark(config, input_model=model, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": str(model),
        "latency": {"calls": 9, "median_ms": 1.5, "p90_ms": 2.5, "p99_ms": 3.5},
        "throughput_images_per_s": 1234.5,
        "batch_size": 1,
        "threads": 2,
        "instances": 1,
        "saturation": None,
    }


def test_accuracy_in_json_is_the_same_as_in_text(
    images: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(folders(images), folders(images))
    assert run_evaluate(config, input_model=model, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert run_evaluate(config, input_model=model) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        f"Accuracy: {document['top1_fraction']:.4f} top-1, {document['top5_fraction']:.4f} top-5, "
        f"{document['images']} images"
    )
    assert document["top1_fraction"] == document["top1_correct"] / document["images"]
