from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from quantize.errors import InputError
from quantize.exporting import export_ort
from quantize.session import make_session, outputs
from tests.quantize.conftest import ModelFiles, make_images


@pytest.mark.parametrize("spelling", ["qoperator", "qdq"])
def test_the_converted_model_runs_and_gives_the_same_bits(
    spelling: str, model_files: ModelFiles, tmp_path: Path
) -> None:
    path = getattr(model_files, spelling)
    made = export_ort(path, tmp_path / "new folder")
    assert made.agreement.bit_equal
    assert made.warnings == ()
    # Bytes 4 to 8 of the flatbuffer are its identifier.
    assert made.model.read_bytes()[4:8] == b"ORTM"
    images = make_images(seed=99)
    original, converted = (
        outputs(make_session(model, threads=1), images) for model in (path, made.model.read_bytes())
    )
    assert np.array_equal(original, converted)


def test_a_reduced_build_is_told_the_operators_and_nothing_of_this_machine(
    model_files: ModelFiles, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = export_ort(model_files.qoperator, tmp_path)
    lines = made.operators.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["# Generated from model/s:", "# - QOperator.ort"]
    listed = {name for line in lines[2:] for name in line.split(";")[2].split(",")}
    assert {"QLinearConv", "QGemm", "QuantizeLinear", "MaxPool"} <= listed
    assert not listed & {"Conv", "Gemm", "Transpose"}  # layouts are for the machine that runs it
    assert capfd.readouterr() == ("", "")


def test_the_list_is_that_of_onnx_runtimes_own_tool(
    model_files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    made = export_ort(model_files.qdq, tmp_path / "ours")
    monkeypatch.setenv("ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL", "extended")
    theirs = tmp_path / "theirs"
    convert_onnx_models_to_ort(model_files.qdq, theirs, [OptimizationStyle.Fixed])
    (listed,) = theirs.glob("*.config")

    def operators(path: Path) -> list[str]:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]

    assert operators(made.operators) == operators(listed)
    (model,) = theirs.glob("*.ort")
    images = make_images(seed=98)
    results = [outputs(make_session(path.read_bytes(), threads=1), images) for path in (model, made.model)]
    assert np.array_equal(*results)


def test_a_float_model_is_converted_with_a_warning(model_files: ModelFiles, tmp_path: Path) -> None:
    made = export_ort(model_files.fp32, tmp_path)
    assert "a float model" in made.warnings[0]
    # Another order of float32 sums: 1e-5 is some ten times what this network's scores are rounded by.
    assert made.agreement.max_abs_difference < 1e-5


def test_a_name_that_is_no_utf8(model_files: ModelFiles, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.onnx")
    path.write_bytes(model_files.fp32.read_bytes())
    made = export_ort(path, tmp_path / "out")
    assert os.fsencode(made.model.name) == b"\xff.ort" and made.model.is_file()
    assert "\\udcff.ort" in made.operators.read_text(encoding="utf-8")


def test_nothing_is_left_after_a_failure(tmp_path: Path, model_files: ModelFiles) -> None:
    model = onnx.load(model_files.fp32)
    model.graph.node[0].domain = "acme"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    with pytest.raises(Exception, match="acme"):
        export_ort(path, tmp_path / "out")
    assert not [name for _, _, names in os.walk(tmp_path / "out") for name in names]


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^gone\.onnx: does not exist"):
        export_ort(Path("gone.onnx"), tmp_path)
