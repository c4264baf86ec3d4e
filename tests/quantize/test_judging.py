"""The two judges of a search, on images in files."""

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
from quantize.criterion import Criterion
from quantize.errors import EngineError, InputError
from quantize.judging import AccuracyJudge, CalibrationDivergence
from quantize.metrics import Fidelity
from quantize.session import make_session, outputs
from tests.quantize.models import shifted

PIPELINE = build_pipeline({"Rescale": None, "Transpose": {"perm": [2, 0, 1]}})
COUNT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(4)
    for index in range(COUNT):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path / f"{index}.png")
    return path


@pytest.fixture(scope="module")
def model(make_classifier: Any) -> onnx.ModelProto:
    found: onnx.ModelProto = make_classifier()
    return found


def loader_of(folder: Path, labels: list[int], batch_size: int = 7) -> DataLoader:
    names = tuple(f"{index}.png" for index in range(len(labels)))
    return DataLoader(ImageSet(folder, names, tuple(labels), "test"), PIPELINE, batch_size=batch_size)


def scores_of(model: onnx.ModelProto, folder: Path) -> np.ndarray[Any, Any]:
    images = np.concatenate([batch for batch, _ in loader_of(folder, [0] * COUNT)])
    return outputs(make_session(model, threads=1), images)


def test_accuracy_counts_the_metric_of_the_criterion(folder: Path, model: onnx.ModelProto) -> None:
    ranked = np.argsort(-scores_of(model, folder), axis=1, kind="stable")
    # Eight images whose label comes second, four whose label comes last of seven, the rest right.
    labels = [int(row[1] if i < 8 else row[-1] if i < 12 else row[0]) for i, row in enumerate(ranked)]
    loader = loader_of(folder, labels)
    assert AccuracyJudge(loader, Criterion(metric="top1"), threads=1)(model) == 28 / 40
    assert AccuracyJudge(loader, Criterion(metric="top5"), threads=1)(model) == 36 / 40
    # It may be asked again.
    judge = AccuracyJudge(loader, Criterion(), threads=2)
    assert judge(model) == judge(model) == 28 / 40


def test_accuracy_refuses_labels_the_model_does_not_have(folder: Path, model: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="999"):
        AccuracyJudge(loader_of(folder, [999] * 3), Criterion(), threads=1)(model)


def test_divergence_is_that_of_the_first_calibration_images(folder: Path, model: onnx.ModelProto) -> None:
    measure = CalibrationDivergence(model, loader_of(folder, [0] * COUNT), threads=1, probabilities=False)
    assert measure(model) == 0.0
    near, far = measure(shifted(model, 0.1)), measure(shifted(model, 1.0))
    assert 0.0 < near < far
    reference, moved = (scores_of(m, folder)[:32] for m in (model, shifted(model, 1.0)))
    assert far == pytest.approx(Fidelity.from_logits(reference, moved, probabilities=False).kl, rel=1e-6)


def test_divergence_reads_its_images_once_and_only_when_asked(
    folder: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    original = DataLoader.__iter__
    monkeypatch.setattr(
        DataLoader, "__iter__", lambda self: (begun.append(len(self.images)), original(self))[1]
    )
    measure = CalibrationDivergence(model, loader_of(folder, [0] * COUNT), threads=1, probabilities=False)
    assert begun == []
    measure(model)
    measure(shifted(model, 0.5))
    assert begun == [32]
    few = CalibrationDivergence(model, loader_of(folder, [0] * 3), threads=1, probabilities=False)
    few(model)
    assert begun == [32, 3]


def test_divergence_of_a_model_that_ends_in_softmax(folder: Path, make_classifier: Any) -> None:
    plain, softmax = make_classifier(), make_classifier(softmax=True)
    loader = loader_of(folder, [0] * COUNT)
    logits = CalibrationDivergence(plain, loader, threads=1, probabilities=False)
    probabilities = CalibrationDivergence(softmax, loader, threads=1, probabilities=True)
    # float32 probabilities carry 24 bits; their logarithms differ from the logits by some 1e-7.
    assert probabilities(shifted(softmax, 1.0)) == pytest.approx(logits(shifted(plain, 1.0)), rel=1e-4)


def test_divergence_names_what_the_runtime_refuses(folder: Path, model: onnx.ModelProto) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[0].op_type = "NoSuchOperator"
    measure = CalibrationDivergence(model, loader_of(folder, [0] * 4), threads=1, probabilities=False)
    with pytest.raises(EngineError, match="NoSuchOperator"):
        measure(broken)
