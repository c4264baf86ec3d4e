from __future__ import annotations

import json

import pytest

from quantize.cli import main
from tests.quantize.cli_stand_ins import failed
from tests.quantize.conftest import ModelFiles


def test_one_model(model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model_files.qdq)]) == 0
    text = capsys.readouterr().out
    assert "runs in integers           3 of 3 operators with weights" in text
    assert main(["inspect", str(model_files.qdq), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runtime"]["integer_weighted"] == 3
    assert document["file"]["path"] == str(model_files.qdq)
    assert "tensor" not in document


def test_one_tensor(model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model_files.qdq), "--tensor=image"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["tensor", "image"]
    assert main(["inspect", str(model_files.qdq), "--tensor=image", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensor"]["quantization"]["dtype"] == "uint8"


def test_operators(model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model_files.qdq), "--operators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("integer ") and " QLinearConv " in line for line in lines) == 2
    assert "keep one" in failed(capsys, "inspect", str(model_files.qdq), "--operators", "--tensor=image")


def test_two_models(model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    same = ["inspect", str(model_files.qdq), str(model_files.qdq)]
    assert main(same) == 0
    assert main([*same, "--json"]) == 0
    assert main(["inspect", str(model_files.fp32), str(model_files.qdq)]) == 1
    capsys.readouterr()
    assert main(["inspect", str(model_files.fp32), str(model_files.qdq), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {
        "what": "operators.DequantizeLinear",
        "left": None,
        "right": document["right"]["operators"]["DequantizeLinear"],
    } in document["differences"]


def test_mistakes(model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(model_files.qdq)
    assert "--tensor has no effect with two models" in failed(
        capsys, "inspect", model, model, "--tensor=image"
    )
    assert failed(capsys, "inspect", "gone.onnx").startswith("gone.onnx: does not exist")
    assert "is one argument too many" in failed(capsys, "inspect", model, model, model)
