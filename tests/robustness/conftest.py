"""Fixtures of the tests that treat the program badly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from quantize.demo_data import write_digits_dataset
from tests.robustness.programs import PROJECT, Launch, Program
from tests.robustness.tiny import write_tiny


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
