from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration.transforms import CenterCrop, ResizeShortest, Transform
from quantize.cli import main
from quantize.cli.commands.export import _step
from tests.quantize.cli_stand_ins import failed
from tests.quantize.conftest import ModelFiles
from tests.quantize.prediction.conftest import config

__all__ = ["config"]  # a fixture


def test_every_target_in_text_and_json(
    model_files: ModelFiles, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"ort": [], "uint8": [f"--config={config}", "--layout=nchw"], "triton": ["--name=net"]}
    for target, flags in more.items():
        command = ["export", target, str(model_files.qdq), f"--output={tmp_path / target}", *flags]
        assert main(command) == 0
        text = capsys.readouterr().out
        written = [
            Path(line.removeprefix("wrote ")) for line in text.splitlines() if line.startswith("wrote ")
        ]
        assert written and all(path.is_file() for path in written)
        assert main([*command, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        files = document.get("files", [document["model"]])
        assert set(files) <= set(map(str, written))
        if target != "triton":
            assert document["agreement"]["bit_equal"] is True


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (ResizeShortest(size=256), "ResizeShortest (size 256, interpolation bilinear)"),
        (CenterCrop(size=224), "CenterCrop (size 224x224)"),
    ],
)
def test_what_an_app_has_to_do_is_told_with_its_sizes(step: Transform, shown: str) -> None:
    assert _step(step.to_json()) == shown


def test_beside_the_model_by_default(
    model_files: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_files.qdq.read_bytes())
    assert main(["export", "ort", str(path)]) == 0
    assert (tmp_path / "m.ort").is_file()


def test_mistakes(model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--config is missing" in failed(capsys, "export", "uint8", str(model_files.qdq))
    assert "expected NHWC or NCHW" in failed(capsys, "export", "uint8", "m.onnx", "--layout=x")
    assert "invalid choice: 'coreml'" in failed(capsys, "export", "coreml", "m.onnx")
    assert failed(capsys, "export", "ort", "m.onnx", "--labels=x").startswith("--labels is no flag of export")
