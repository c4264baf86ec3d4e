"""Fixtures of the tests that treat the program badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.demo_data import write_digits_dataset
from tests.robustness.programs import Launch, Program


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's pictures, as few as a run can do with."""
    folder = tmp_path_factory.mktemp("few digits") / "set"
    return write_digits_dataset(folder, calibration_count=40, evaluation_count=40).root


@pytest.fixture
def program(few_digits: Path, tmp_path: Path) -> Program:
    """A small run with folders of its own."""
    return Program(tmp_path / "run", few_digits)


@pytest.fixture(scope="session")
def launch(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Makes programs, each with folders of its own."""

    def make(**more: str | None) -> Program:
        return Program(tmp_path_factory.mktemp("run"), few_digits, more)

    return make
