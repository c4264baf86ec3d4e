"""A first load in a child process, for versions that a model can crash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quantize.errors import InputError
from quantize.loading import read_model, rehearsal
from tests.robustness.model_commands import small_classifier


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rehearsal, "is_needed", lambda: True)
    monkeypatch.setattr(rehearsal, "_survived", set())
    path = tmp_path / "net.onnx"
    path.write_bytes(small_classifier().SerializeToString())
    return path


@pytest.mark.robustness(
    "Models",
    "A model that crashes an onnx or ONNX Runtime older than those that are pinned",
    "it crashes a process of its own; the command refuses the model in one line",
)
def test_a_crash_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    with pytest.raises(InputError, match=r"net\.onnx: crashes the installed .*\(signal 6\)"):
        read_model(model)


def test_one_that_never_ends_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(rehearsal, "_PATIENCE_S", 0.5)
    with pytest.raises(InputError, match=r"is not loaded within 0\.5 s"):
        read_model(model)


def test_a_model_that_works_is_rehearsed_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_model(model)
    assert len(rehearsal._survived) == 1
    monkeypatch.setattr(rehearsal, "_COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    read_model(model)


@pytest.mark.parametrize(
    ("installed", "needed"),
    [("1.19.0", True), ("1.23.2", True), ("1.32.0", False), ("1.33.0.dev20260101", False), ("2.0", False)],
)
def test_older_versions_need_it(installed: str, needed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: installed)
    assert rehearsal.is_needed.__wrapped__() is needed
