"""`--start_from`: a model that ONNX Runtime's quantizer made of the bundled example, refined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

import quantize
from quantize.config import SHIPPED_FOLDER, load_config
from quantize.data import load_data
from quantize.demo_data import DigitsDataset
from quantize.diagnose.options import ReportOptions
from quantize.errors import InputError
from quantize.model import load_model, read_signature

MODEL = SHIPPED_FOLDER.parent / "examples" / "digits" / "digits-mobilenetv2.onnx"
ROOT = "dataloader.dataset.ImageFolder.root"


class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package is untyped
    def __init__(self, images: np.ndarray[Any, Any]) -> None:
        self._images = iter(images)

    def get_next(self) -> Any:
        image = next(self._images, None)
        return None if image is None else {"input": image[None]}


@pytest.fixture(scope="module")
def overrides(digits: DigitsDataset) -> dict[str, object]:
    return {
        f"quantization.calibration.{ROOT}": digits.calibration,
        f"evaluation.accuracy.{ROOT}": digits.evaluation,
        "quantization.calibration.sampling_size": 40,
        "evaluation.accuracy.sampling_size": 200,
        "refine.effort": "fast",
    }


@pytest.fixture(scope="module")
def theirs(overrides: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = load_config("demo_digits.yaml").with_overrides(overrides)
    data = load_data(config, read_signature(load_model(MODEL), MODEL), progress=False)
    images = np.concatenate([batch for batch, _ in data.calibration])
    path = tmp_path_factory.mktemp("theirs") / "int8.onnx"
    quantize_static(MODEL, path, Reader(images), quant_format=QuantFormat.QDQ, per_channel=True)
    return path


def test_it_is_refined_and_verified(theirs: Path, overrides: dict[str, object], tmp_path: Path) -> None:
    result = quantize.tune(
        MODEL,
        "demo_digits.yaml",
        tmp_path / "out",
        overrides=overrides,
        start_from=theirs,
        report=ReportOptions(pages=False),
    )
    assert result.passed
    assert set(result.models) == {"QOperator", "QDQ"}
    refinement = result.report["tuning"]["refinement"]
    assert "given" in refinement["rules_kl_nats"]
    assert refinement["after"]["kl_nats"] <= refinement["before"]["kl_nats"]
    (trial,) = result.report["tuning"]["trials"]
    assert trial["number"] == 1
    for artefact in result.report["models"]["int8"].values():
        assert artefact["kernels"]["integer_weighted"] == 53
        assert artefact["portability"]["exact_on_every_cpu"] is True


def test_a_model_of_our_own_comes_out_as_it_was(overrides: dict[str, object], tmp_path: Path) -> None:
    def tuned(folder: str, start_from: Path | None) -> quantize.TuningResult:
        plain = ReportOptions(pages=False)
        output = tmp_path / folder
        return quantize.tune(
            MODEL, "demo_digits.yaml", output, overrides=overrides, start_from=start_from, report=plain
        )

    first = tuned("first", None)
    again = tuned("again", first.models["QDQ"])
    for kind, path in first.models.items():
        kernels = again.report["models"]["int8"][kind]["kernels"]
        assert kernels["integer_weighted"] == kernels["weighted"] == 53
        assert again.models[kind].read_bytes() == path.read_bytes()


def test_mistakes_are_one_line(theirs: Path, overrides: dict[str, object], tmp_path: Path) -> None:
    def start(path: Path, **more: object) -> None:
        changed = {**overrides, **more}
        quantize.tune(MODEL, "demo_digits.yaml", tmp_path / "out", overrides=changed, start_from=path)

    with pytest.raises(InputError, match=r"--start_from .*missing\.onnx: does not exist"):
        start(tmp_path / "missing.onnx")
    with pytest.raises(InputError, match="has no DequantizeLinear"):
        start(MODEL)
    with pytest.raises(InputError, match="--start_from needs refinement"):
        start(theirs, **{"refine.effort": "none"})
    assert not (tmp_path / "out").exists()
