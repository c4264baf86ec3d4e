from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantize.cli import main
from tests.quantize.cli_stand_ins import failed
from tests.quantize.package.conftest import tuned

__all__ = ["tuned"]  # a fixture


def test_text_and_json(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["package", str(tuned), "--title=Net-int8", f"--output={tmp_path / 'zoo'}", "--tags=a, b"]
    assert main(command) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("|Net-int8| [")
    assert len([line for line in out if line.startswith("wrote ")]) == 5
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["packages"][0]["row"] == out[0]
    assert document["packages"][0]["manifest"]["metadata"]["tags"] == ["a", "b"]
    assert all(Path(file).is_file() for file in document["files"])


def test_contradictions(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tuned)
    assert "--title: names one model" in failed(capsys, "package", model, model, "--title=x")
    assert "--config has no effect" in failed(capsys, "package", model, "--config=x.yaml")
