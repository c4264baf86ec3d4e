"""The flagship: MobileNetV2 of the Model Zoo on real ImageNet photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantize.model import load_model, read_signature
from quantize.prepare import prepare
from quantize.session import make_session, outputs
from tests.end_to_end.conftest import Run, Runner

# What the issue asks of the engine alone.
_LARGEST_DECLINE = 0.015
_LARGEST_PEAK_BYTES = 1_500_000_000

# The divergence of single runs lies between 0.0055 and 0.0080 on these images, by which positions happen to
# be sampled; that of the engine alone is 0.05.
_LARGEST_KL = 0.010
_LEAST_AGREEMENT = 0.96
_LARGEST_REFINED_PEAK_BYTES = 2_000_000_000

_DATA_FOLDER = Path(__file__).resolve().parent.parent / "quantize" / "data"


def test_the_engine_alone_is_within_tolerance_in_both_formats(engine_alone: Run) -> None:
    assert engine_alone.code == 0, engine_alone.stdout + engine_alone.stderr
    report = engine_alone.report
    assert report["images"]["calibration"]["count"] == 100
    assert report["images"]["evaluation"]["count"] == 400
    assert report["images"]["overlap_count"] == 0
    for artefact in report["models"]["int8"].values():
        assert artefact["kernels"]["integer_weighted"] == artefact["kernels"]["weighted"] == 53
        assert artefact["decline"]["top1"]["relative_fraction"]["estimate"] <= _LARGEST_DECLINE
    assert report["models"]["formats_equality"]["bit_equal"] is True
    assert report["run"]["peak_memory_bytes"] < _LARGEST_PEAK_BYTES


def test_refined_it_follows_fp32_closely(flagship: Run) -> None:
    assert flagship.code == 0, flagship.stdout + flagship.stderr
    report = flagship.report
    counts = [report["images"][side]["count"] for side in ("calibration", "selection", "evaluation")]
    assert counts == [100, 50, 350]
    assert report["images"]["overlap_count"] == 0
    for artefact in report["models"]["int8"].values():
        assert artefact["kernels"]["integer_weighted"] == artefact["kernels"]["weighted"] == 53
        assert artefact["kl_nats"] <= _LARGEST_KL
        assert artefact["agreement_fraction"] >= _LEAST_AGREEMENT
        assert artefact["portability"]["exact_on_every_cpu"] is True
    assert report["models"]["formats_equality"]["bit_equal"] is True
    assert report["run"]["peak_memory_bytes"] < _LARGEST_REFINED_PEAK_BYTES


def test_int8_file_is_a_quarter_of_fp32(flagship: Run) -> None:
    models = flagship.report["models"]
    for artefact in models["int8"].values():
        assert artefact["size_bytes"] < 0.29 * models["fp32"]["size_bytes"]
        assert artefact["size_bytes"] <= 3_900_000


def test_fp32_accuracy_is_the_reference_figure(flagship: Run) -> None:
    """83.2 % on all 500 images; on 350 of them it is within three standard errors (1.1 points)."""
    accuracy = flagship.report["models"]["fp32"]["accuracy"]["top1_fraction"]
    assert accuracy == pytest.approx(0.832, abs=0.033)


def test_dense_weights_have_seven_bits_and_depthwise_eight(engine_alone: Run) -> None:
    model = onnx.load(engine_alone.model("-qdq"))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    largest: dict[bool, int] = {True: 0, False: 0}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        integers = numpy_helper.to_array(weights[makers[node.input[1]].input[0]])
        assert integers.dtype == np.int8
        depthwise = node.op_type == "Conv" and integers.shape[1] == 1
        largest[depthwise] = max(largest[depthwise], int(np.abs(integers.astype(int)).max()))
    assert largest == {False: 64, True: 127}


@pytest.mark.parametrize(
    ("framework", "primary"), [("onnxrt_qlinearops", "QOperator"), ("onnxrt_qdq", "QDQ")]
)
def test_zoo_configurations_work_unchanged(
    run_program: Runner, real_data: list[str], tmp_path: Path, framework: str, primary: str
) -> None:
    """The zoo's two files differ in the framework alone."""
    config = tmp_path / "mobilenetv2.yaml"
    text = (_DATA_FOLDER / "zoo_qlinearops.yaml").read_text(encoding="utf-8")
    config.write_text(text.replace("onnxrt_qlinearops", framework), encoding="utf-8")
    few = ["--calibration_samples=16", "--eval_samples=40", "--refine=none", "--no_html"]
    run = run_program(*real_data, f"--config={config}", *few)
    assert run.code in (0, 1), run.stderr  # 40 images decide nothing; that it runs is the point
    (report,) = run.folder.glob("report*.json")
    assert json.loads(report.read_text(encoding="utf-8"))["models"]["primary_format"] == primary


def test_preparation_reproduces_the_zoo_output(shared_dir: Path) -> None:
    """The model's classifier was rebuilt from int8, so its own reference differs by up to 0.13 of 18.3."""
    path = shared_dir / "models" / "mobilenetv2-12.onnx"
    model = load_model(path)
    prepared = prepare(model, read_signature(model, path))
    image = np.load(shared_dir / "models" / "test_data_set_0" / "input_0.npy")
    expected = np.load(shared_dir / "models" / "test_data_set_0" / "output_0.npy")
    scores = outputs(make_session(prepared, threads=1), image)
    assert np.max(np.abs(scores - expected)) < 0.14
    assert scores.argmax() == expected.argmax()
