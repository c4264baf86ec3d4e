"""What the tests that treat the program badly are made with: images, models, configurations, programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from quantize.demo_data import write_digits_dataset
from tests.quantize.conftest import build_classifier
from tests.quantize.image_samples import CLASSES, TRANSFORM, write_folders
from tests.robustness.programs import PROJECT, Launch, Program
from tests.robustness.runs import COUNT, EXTENT
from tests.robustness.tiny import write_tiny


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes milliseconds, its images and its configuration."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "given")


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with as few of its pictures as a run can do with."""
    folder = tmp_path_factory.mktemp("few digits")
    digits = write_digits_dataset(folder / "set", calibration_count=40, evaluation_count=40)
    config = (PROJECT / "configs" / "demo_digits.yaml").read_text(encoding="utf-8")
    text = config.replace("<DIR>", str(digits.root)).replace("sampling_size: 100", "sampling_size: 30")
    (folder / "c.yaml").write_text(f"{text}\nrefine: {{selection_samples: 10}}\n", encoding="utf-8")
    shutil.copy(PROJECT / "examples" / "digits" / "digits-mobilenetv2.onnx", folder / "net.onnx")
    return folder


@pytest.fixture
def program(tiny: Path, tmp_path: Path) -> Program:
    """A small run with folders of its own."""
    return Program(tmp_path / "run", tiny)


@pytest.fixture(scope="session")
def launch(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Makes programs, each with folders of its own."""

    def make(given: Path = tiny, **more: str | None) -> Program:
        return Program(tmp_path_factory.mktemp("run"), given, more)

    return make
