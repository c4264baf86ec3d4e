"""Fp32 is computed once per model, images and transforms, and never mistaken for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from calibration.dataloader import DataLoader
from calibration.images import ImageSet
from calibration.store import Store
from calibration.transforms import build_pipeline
from quantize import baseline as module
from quantize.baseline import Baseline
from quantize.evaluate import evaluate
from quantize.session import make_session, outputs
from quantize.verify import verify

COUNT = 22
PIPELINE = {"Rescale": None, "Transpose": {"perm": [2, 0, 1]}}


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(4)
    names = tuple(f"{index}.png" for index in range(COUNT))
    for name in names:
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name)
    return ImageSet(folder, names, tuple(index % 7 for index in range(COUNT)), "test")


def loader_of(images: ImageSet, folder: Path | None, transform: Any = None) -> DataLoader:
    store = None
    if folder is not None:
        store = Store(folder, limit_bytes=10**8, warn=pytest.fail)
    return DataLoader(images, build_pipeline(transform or PIPELINE), batch_size=4, store=store)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each batch had that the fp32 model was run on."""
    sizes: list[int] = []

    def noting(session: Any, batch: Any, **settings: Any) -> Any:
        sizes.append(len(batch))
        return outputs(session, batch, **settings)

    monkeypatch.setattr(module, "outputs", noting)
    return sizes


def test_it_is_what_evaluating_the_file_says(model_files: Any, images: ImageSet, tmp_path: Path) -> None:
    plain = evaluate({"m": make_session(model_files.fp32, threads=1)}, loader_of(images, None))["m"]
    for folder in (None, tmp_path / "cache", tmp_path / "cache"):
        found = Baseline(model_files.fp32, loader_of(images, folder), workers=2).evaluation
        assert found.counts == plain.counts
        assert found.top1_hits.tolist() == plain.top1_hits.tolist()


def test_it_is_computed_once(model_files: Any, images: ImageSet, tmp_path: Path, computed: list[int]) -> None:
    for _ in range(2):
        loader = loader_of(images, tmp_path / "cache")
        known = Baseline(model_files.fp32, loader, workers=2)
        assert known.evaluation.counts.images == COUNT
        verify(
            model_files.fp32,
            {"QDQ": model_files.qdq},
            loader,
            threads=2,
            latency_rounds=1,
            latency_warmup=0,
            baseline=known,
        )
    assert sorted(computed) == [2, 4, 4, 4, 4, 4]


def test_a_remembered_baseline_needs_no_images(
    model_files: Any, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Baseline(model_files.fp32, loader_of(images, tmp_path / "cache"), workers=1).evaluation
    monkeypatch.setattr(DataLoader, "load", lambda *_: pytest.fail("an image was read"))
    again = Baseline(model_files.fp32, loader_of(images, tmp_path / "cache"), workers=1).evaluation
    assert again.counts == first.counts


def other_labels(images: ImageSet) -> ImageSet:
    return ImageSet(images.root, images.files, tuple(6 - label for label in images.labels), "test")


def test_labels_are_no_part_of_what_is_remembered(
    model_files: Any, images: ImageSet, tmp_path: Path, computed: list[int]
) -> None:
    _ = Baseline(model_files.fp32, loader_of(images, tmp_path / "cache"), workers=1).evaluation
    count = len(computed)
    changed = other_labels(images)
    found = Baseline(model_files.fp32, loader_of(changed, tmp_path / "cache"), workers=1).evaluation
    assert len(computed) == count
    plain = evaluate({"m": make_session(model_files.fp32, threads=1)}, loader_of(changed, None))["m"]
    assert found.counts == plain.counts


def with_moved_bias(path: Path, target: Path) -> Path:
    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "b3")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, "b3"))
    onnx.save(model, target)
    return target


def test_whatever_changes_is_computed_again(
    model_files: Any, images: ImageSet, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(path: Path = model_files.fp32, transform: Any = None) -> int:
        computed.clear()
        _ = Baseline(path, loader_of(images, tmp_path / "cache", transform), workers=1).evaluation
        return len(computed)

    assert count() == 6
    assert count() == 0
    assert count(with_moved_bias(model_files.fp32, tmp_path / "other.onnx")) == 6
    assert count(transform={**PIPELINE, "Normalize": {"mean": 0.5, "std": 0.5}}) == 6
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(images.path(5))
    assert count() == 1  # the batch of four that the image is in
    assert count() == 0
    with monkeypatch.context() as patch:
        patch.setattr(module.ort, "__version__", "0.0")
        assert count() == 6
    with monkeypatch.context() as patch:
        patch.setattr(module, "cpu", lambda: ("another", []))
        assert count() == 6


def test_external_data_is_part_of_the_model(
    make_classifier: Callable[..., onnx.ModelProto], images: ImageSet, tmp_path: Path, computed: list[int]
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_classifier(), path, save_as_external_data=True, location="weights", size_threshold=0)

    def count() -> int:
        computed.clear()
        _ = Baseline(path, loader_of(images, tmp_path / "cache"), workers=1).evaluation
        return len(computed)

    assert count() == 6 and count() == 0
    weights = bytearray((tmp_path / "weights").read_bytes())
    weights[3] ^= 1  # the exponent of the first weight
    (tmp_path / "weights").write_bytes(weights)
    assert count() == 6
