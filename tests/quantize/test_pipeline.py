"""The main job in process, as `quantize.tune` runs it: on every small network that we trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import quantize
from quantize.config import SHIPPED_FOLDER, load_config
from quantize.demo_data import DigitsDataset
from quantize.diagnose.options import ReportOptions
from quantize.errors import InputError
from quantize.measure import run_benchmark, run_evaluate
from quantize.model import load_model

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = sorted(
    [
        *(ROOT / "examples" / "digits").glob("*.onnx"),
        *(ROOT / "tests" / "fixtures" / "networks").glob("*.onnx"),
    ]
)


# Pages, and what is found out for them alone, take longer than the rest; one test here has them made.
BRIEF = ReportOptions(pages=False)


@pytest.fixture(scope="module")
def paths(digits: DigitsDataset) -> dict[str, object]:
    root = "dataloader.dataset.ImageFolder.root"
    return {
        f"quantization.calibration.{root}": digits.calibration,
        f"evaluation.accuracy.{root}": digits.evaluation,
        "refine.effort": "none",
    }


@pytest.mark.parametrize("network", NETWORKS, ids=lambda path: path.stem)
def test_every_network_is_integer_within_tolerance(
    network: Path, paths: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refined = {**paths, "refine.effort": "full", "evaluation.accuracy.sampling_size": 500}
    result = quantize.tune(network, "demo_digits.yaml", tmp_path, overrides=refined, report=BRIEF)
    assert result.passed
    assert result.exit_code == 0
    assert capsys.readouterr().out.startswith("PASS: ")
    assert set(result.models) == {"QOperator", "QDQ"}
    for kind, artefact in result.verification.artefacts.items():
        assert artefact.facts.coverage.integer_weighted == artefact.facts.coverage.weighted, kind
        # These networks lose hardly anything: a mistake anywhere costs far more than one image in a hundred.
        assert artefact.fidelity.agreement > 0.99
        assert artefact.facts.path.is_file()
    refinement = result.report["tuning"]["refinement"]
    assert refinement["effort"] == "full"
    assert refinement["after"]["kl_nats"] <= refinement["before"]["kl_nats"]
    equality = result.verification.formats_equality
    assert equality is not None
    assert equality.bit_equal
    assert json.loads(result.report_path.read_text(encoding="utf-8")) == json.loads(json.dumps(result.report))


def test_relative_paths_and_a_configuration_in_memory(
    digits: DigitsDataset, paths: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(SHIPPED_FOLDER / "demo_digits.yaml").with_overrides(paths)
    few = {"evaluation.accuracy.sampling_size": 50, "quantization.calibration.sampling_size": 20}
    result = quantize.tune(
        NETWORKS[0], config, "a folder/m.onnx", overrides={**few, "quantization.quant_format": "QDQ"}
    )
    names = ["m-report.html", "m-report.json", "m-report.md", "m.onnx"]
    assert sorted(path.name for path in (tmp_path / "a folder").iterdir()) == names
    assert result.report["images"]["evaluation"]["count"] == 50
    assert result.report["images"]["calibration"]["count"] == 20


def test_one_folder_for_both_sides_is_shared_out(digits: DigitsDataset, tmp_path: Path) -> None:
    result = quantize.tune(
        NETWORKS[0],
        "demo_digits.yaml",
        tmp_path,
        dataset_location=digits.evaluation,
        overrides={"refine.effort": "fast"},
        report=BRIEF,
    )
    images = result.report["images"]
    counts = [images[side]["count"] for side in ("calibration", "selection", "evaluation")]
    assert (counts, images["overlap_count"]) == ([100, 50, 647], 0)


def test_overlap_that_was_asked_for_is_told(digits: DigitsDataset, tmp_path: Path) -> None:
    asked = {
        "quantization.calibration.allow_overlap": True,
        "evaluation.accuracy.sampling_size": 200,
        "refine.effort": "none",
    }
    result = quantize.tune(
        NETWORKS[0],
        "demo_digits.yaml",
        tmp_path,
        dataset_location=digits.evaluation,
        overrides=asked,
        report=BRIEF,
    )
    shared = result.report["images"]["overlap_count"]
    assert shared > 0
    assert any(
        f"{shared} of 200 evaluation images were calibrated on" in line for line in result.report["warnings"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"evaluation.accuracy.dataloader.transform.LabelShift": {"label_shift": -1}},
            "labels run from 1 to 10",
        ),
        ({"evaluation.accuracy.dataloader.transform.CenterCrop": {"size": 32}}, "makes "),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused_before_work(
    changes: dict[str, Any], message: str, paths: dict[str, object], tmp_path: Path
) -> None:
    config = load_config(SHIPPED_FOLDER / "demo_digits.yaml").with_overrides(paths)
    transform = dict(config.evaluation_data().transform)
    for dotted, arguments in changes.items():
        name = dotted.rsplit(".", 1)[1]
        transform = {name: arguments, **transform}
    broken = config.with_overrides({"evaluation.accuracy.dataloader.transform": transform})
    with pytest.raises(InputError, match=message):
        quantize.tune(NETWORKS[0], broken, tmp_path / "out")


@pytest.fixture(scope="module")
def plain(paths: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> quantize.TuningResult:
    """A run without refinement."""
    out = tmp_path_factory.mktemp("plain")
    return quantize.tune(NETWORKS[0], "demo_digits.yaml", out, overrides=paths, report=BRIEF)


def test_a_quantized_model_is_refused_by_name(
    plain: quantize.TuningResult, paths: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is quantized already"):
        quantize.tune(plain.models["QDQ"], "demo_digits.yaml", tmp_path / "again", overrides=paths)


def test_settings_that_mean_no_operator_are_told(paths: dict[str, object], tmp_path: Path) -> None:
    stray = {"quantization.op_wise": {"Nothing_*": {"activation": {"dtype": ["fp32"]}}}}
    given = {**paths, **stray, "evaluation.accuracy.sampling_size": 100}
    result = quantize.tune(NETWORKS[0], "demo_digits.yaml", tmp_path, overrides=given, report=BRIEF)
    assert "quantization.op_wise.Nothing_* means no operator that can be int8" in result.report["warnings"]


def test_an_operator_kept_in_fp32_is_listed_with_the_reason(paths: dict[str, object], tmp_path: Path) -> None:
    kept = {"quantization.optype_wise": {"Gemm": {"activation": {"dtype": ["fp32"]}}}}
    given = {**paths, **kept}
    result = quantize.tune(NETWORKS[0], "demo_digits.yaml", tmp_path, overrides=given, report=BRIEF)
    (gemm,) = [entry for entry in result.report["tuning"]["fp32_operators"] if entry["fallback"]]
    assert gemm["op_type"] == "Gemm"
    assert "configuration" in gemm["reason"]
    coverage = result.verification.artefacts["QDQ"].facts.coverage
    assert coverage.weighted - coverage.integer_weighted == 1
    assert "1 operator left in fp32" in result.sentence


def test_measuring_prints_what_the_report_says(
    plain: quantize.TuningResult, paths: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(SHIPPED_FOLDER / "demo_digits.yaml").with_overrides(paths)
    capsys.readouterr()
    assert run_evaluate(config, input_model=plain.models["QDQ"], verbosity="quiet") == 0
    correct = plain.report["models"]["int8"]["QDQ"]["accuracy"]["top1_correct"]
    assert f"Accuracy: {correct / 797:.4f} top-1" in capsys.readouterr().out
    few = config.with_overrides({"evaluation.performance.iteration": 5, "evaluation.performance.warmup": 1})
    assert run_benchmark(few, input_model=plain.models["QDQ"], verbosity="quiet") == 0
    out = capsys.readouterr().out
    assert "Latency: " in out
    assert "images/s" in out


def test_the_model_file_is_left_alone(paths: dict[str, object], tmp_path: Path) -> None:
    copy = tmp_path / "m.onnx"
    onnx.save(load_model(NETWORKS[0]), copy)
    before = copy.read_bytes()
    with pytest.raises(InputError, match="overwrite"):
        quantize.tune(copy, "demo_digits.yaml", copy, overrides=paths)
    assert copy.read_bytes() == before
