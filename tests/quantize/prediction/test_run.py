from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from quantize.errors import InputError
from quantize.prediction import Prediction, make_predictor
from quantize.session import make_session, outputs
from tests.quantize.conftest import CLASSES, ModelFiles, ModelMaker


def predicted(
    model: Path,
    paths: Sequence[Path],
    config: Path,
    *,
    other: Path | None = None,
    batch_size: int = 4,
    top_k: int = 3,
) -> list[Prediction]:
    predictor = make_predictor(
        model, other=other, config=config, batch_size=batch_size, top_k=top_k, threads=2
    )
    return list(predictor.predict(paths, progress=False))


def reference(model: Path, paths: Sequence[Path]) -> np.ndarray[Any, Any]:
    """Softmax of the scores of each image, computed the long way."""
    crops = [np.asarray(Image.open(path))[1:9, 0:8] for path in paths]
    images = np.stack([((crop / 255 - 0.5) / 0.25).transpose(2, 0, 1) for crop in crops]).astype(np.float32)
    logits = outputs(make_session(model, threads=1), images).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def test_probabilities_are_the_softmax_of_the_scores(
    model_files: ModelFiles, photos: list[Path], config: Path
) -> None:
    found = predicted(model_files.fp32, photos, config)
    assert [prediction.path for prediction in found] == photos
    for prediction, row in zip(found, reference(model_files.fp32, photos), strict=True):
        guesses = prediction.guesses[0]
        assert [guess.index for guess in guesses] == list(np.argsort(-row)[:3])
        # The reference normalizes in float64: 1e-5 is some hundred times float32's rounding.
        assert [guess.probability for guess in guesses] == pytest.approx(sorted(row)[:-4:-1], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_the_batch_size_changes_nothing(
    batch_size: int, model_files: ModelFiles, photos: list[Path], config: Path
) -> None:
    one, other = (predicted(model_files.qdq, photos, config, batch_size=size) for size in (4, batch_size))
    assert one == other


def test_a_fixed_batch_and_a_softmax_in_the_model(
    make_classifier: ModelMaker, photos: list[Path], config: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / "plain.onnx", tmp_path / "softmax.onnx"]
    onnx.save(make_classifier(), paths[0])
    onnx.save(make_classifier(softmax=True, batch=4), paths[1])
    plain, softmax = (predicted(path, photos, config, top_k=CLASSES) for path in paths)
    for one, other in zip(plain, softmax, strict=True):
        assert [g.index for g in one.guesses[0]] == [g.index for g in other.guesses[0]]
        # The model's own softmax is float32.
        assert [g.probability for g in one.guesses[0]] == pytest.approx(
            [g.probability for g in other.guesses[0]], abs=1e-6
        )
        assert sum(g.probability for g in other.guesses[0]) == pytest.approx(1)


def test_what_cannot_be_read_does_not_stop_the_others(
    model_files: ModelFiles, photos: list[Path], config: Path, tmp_path: Path
) -> None:
    broken, small = tmp_path / "broken.png", tmp_path / "small.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (4, 4)).save(small)
    paths = [broken, photos[0], tmp_path / "gone.png", small, photos[1]]
    found = predicted(model_files.fp32, paths, config, batch_size=2)
    assert [prediction.path for prediction in found] == paths
    assert [bool(prediction.problem) for prediction in found] == [True, False, True, True, False]
    assert found[1:2] + found[4:] == predicted(model_files.fp32, photos[:2], config)
    assert all(str(tmp_path) not in prediction.problem for prediction in found)


def test_an_image_of_another_size_does_not_stop_the_others(
    model_files: ModelFiles, config: Path, tmp_path: Path
) -> None:
    uncropped = tmp_path / "uncropped.yaml"
    text = config.read_text(encoding="utf-8")
    uncropped.write_text(text.replace("        CenterCrop: {size: 8}\n", ""), encoding="utf-8")
    right, wrong = tmp_path / "right.png", tmp_path / "wrong.png"
    Image.new("RGB", (8, 8), "red").save(right)
    Image.new("RGB", (1, 3)).save(wrong)
    for other in (None, model_files.qdq):
        found = predicted(model_files.fp32, [wrong, right, wrong], uncropped, other=other)
        assert [bool(prediction.problem) for prediction in found] == [True, False, True]
        assert "as 3x3x1, but the model takes 3x8x8" in found[0].problem


def test_comparison(model_files: ModelFiles, photos: list[Path], config: Path) -> None:
    same = predicted(model_files.fp32, photos, config, other=model_files.fp32)
    assert all(prediction.agree and prediction.kl_nats == 0 for prediction in same)
    found = predicted(model_files.fp32, photos, config, other=model_files.qdq)
    p, q = reference(model_files.fp32, photos), reference(model_files.qdq, photos)
    expected = (p * np.log(p / q)).sum(axis=1)
    # The two preprocessings round differently; the divergences themselves are around 1e-4.
    assert [prediction.kl_nats for prediction in found] == pytest.approx(list(expected), abs=1e-5)
    assert max(expected) > 1e-5
    agreement = (p.argmax(axis=1) == q.argmax(axis=1)).tolist()
    assert [prediction.agree for prediction in found] == agreement


def test_models_of_other_tasks_cannot_be_compared(
    model_files: ModelFiles, make_classifier: ModelMaker, photos: list[Path], config: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(make_classifier(classes=5), other)
    with pytest.raises(InputError, match=r"--compare .*other.onnx: has 5 classes, the other model 7"):
        predicted(model_files.fp32, photos, config, other=other)


@pytest.mark.parametrize("name", ["top_k", "batch_size"])
def test_numbers_below_one(name: str, model_files: ModelFiles, config: Path) -> None:
    with pytest.raises(InputError, match=f"--{name} 0: give 1 or more"):
        make_predictor(model_files.fp32, config=config, **{name: 0})


def test_labels_must_fit_a_model_that_does_not_say_how_many_classes_it_has(
    make_classifier: ModelMaker, photos: list[Path], config: Path, tmp_path: Path
) -> None:
    model = make_classifier()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    path, labels = tmp_path / "m.onnx", tmp_path / "labels.txt"
    onnx.save(model, path)
    labels.write_text("one\ntwo\n", encoding="utf-8")
    predictor = make_predictor(path, config=config, labels=labels)
    with pytest.raises(InputError, match=r"--labels names 2 classes, but .*m\.onnx gives 7 scores"):
        list(predictor.predict(photos, progress=False))


def test_labels_must_fit(model_files: ModelFiles, config: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(InputError, match="names 2 classes, but the model has 7"):
        make_predictor(model_files.fp32, config=config, labels=labels)
