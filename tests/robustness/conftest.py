"""A set of images, a model and a configuration that whole runs are made with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from tests.quantize.conftest import build_classifier
from tests.quantize.image_samples import CLASSES, TRANSFORM, write_folders
from tests.robustness.runs import COUNT, EXTENT


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("good"), COUNT, extent=EXTENT)


@pytest.fixture
def images(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "images"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(build_classifier(classes=CLASSES), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def config(images: Path, tmp_path: Path) -> Path:
    """One set for all roles, that any int8 model is good enough for."""
    dataset = {"ImagenetRaw": {"data_path": str(images)}}
    path = tmp_path / "c.yaml"
    content = {
        "quantization": {
            "calibration": {"sampling_size": 10, "dataloader": {"dataset": dataset, "transform": TRANSFORM}}
        },
        "refine": {"effort": "fast", "selection_samples": 12},
        "tuning": {"accuracy_criterion": {"absolute": 0.9}},
        "threads": 2,
    }
    path.write_text(json.dumps(content))  # JSON is YAML
    return path
