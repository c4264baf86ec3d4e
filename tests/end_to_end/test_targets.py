"""The bundled example for every target: within tolerance, and what the deployment's kernels want."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from quantize.graph import GraphIndex, attribute
from quantize.report.build import SCHEMA_PATH
from quantize.target import TARGETS, TargetName
from tests.end_to_end.conftest import Run, Runner

WEIGHTED = {"Conv", "Gemm", "MatMul"}


# What single runs show besides.
MORE = {"avx2": "--verbose", "tensorrt": "--profile"}


@pytest.fixture(scope="module")
def runs(run_program: Runner) -> Mapping[TargetName, Run]:
    return {
        name: run_program(
            "--demo",
            f"--target={name}",
            "--refine=fast",
            "--no_html",
            *([MORE[name]] if name in MORE else []),
        )
        for name in TARGETS
    }


def weights(model: onnx.ModelProto) -> Iterator[tuple[bool, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Of each weighted operator of a QDQ model: whether it is depthwise, its integers, their scale."""
    index = GraphIndex(model.graph)
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            integers, scale = (index.array(name) for name in index.producer[node.input[1]].input[:2])
            assert integers is not None and scale is not None
            yield attribute(node, "group", 1) > 1, integers, scale


def zero_points(model: onnx.ModelProto) -> set[tuple[str, bool]]:
    """Type of every QuantizeLinear's zero point, and whether it is zero."""
    index = GraphIndex(model.graph)
    found = [index.array(node.input[2]) for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {(str(value.dtype), not value.any()) for value in found if value is not None}


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_keeps_the_accuracy(runs: Mapping[TargetName, Run], name: TargetName) -> None:
    run = runs[name]
    assert run.code == 0, run.stderr + run.stdout
    assert "PASS: " in run.stdout
    assert len(list(run.folder.glob("*.onnx"))) == len(TARGETS[name].formats)
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(run.report)
    assert run.report["target"]["name"] == name
    assert run.report["run"]["configuration"]["quantization"]["target"] == name
    for artefact in run.report["models"]["int8"].values():
        # 797 images; the network loses none with any of them but for the coarser ranges of tensorrt.
        assert artefact["agreement_fraction"] > 0.99
        judged = artefact["declared_kernels"] or artefact["kernels"]
        assert judged["integer_weighted"] == judged["weighted"] == 53
    facts = {entry.key: entry.value for entry in onnx.load(run.model("-qdq")).metadata_props}
    assert facts["quantize.target"] == name


@pytest.mark.parametrize("name", TARGETS)
def test_weights_have_the_bits_of_the_target(runs: Mapping[TargetName, Run], name: TargetName) -> None:
    dense: list[int] = []
    for depthwise, integers, _ in weights(onnx.load(runs[name].model("-qdq"))):
        assert integers.dtype == np.int8
        largest = int(np.abs(integers.astype(int)).max())
        if depthwise or not TARGETS[name].pair_saturation:
            # Scales are searched for, and need not be those with which the largest weight just fits.
            assert 120 <= largest <= 127
        else:
            dense.append(largest)
    if TARGETS[name].pair_saturation:
        # Bounded in pairs, which the next test proves: more than the 7 bits that fit any two.
        assert 64 < max(dense) <= 127


@pytest.mark.parametrize("name", ["portable", "avx2"])
def test_portable_models_are_proven_exact(runs: Mapping[TargetName, Run], name: TargetName) -> None:
    for artefact in runs[name].report["models"]["int8"].values():
        assert artefact["portability"] == {
            "exact_on_every_cpu": True,
            "compared_images": 500,
            "equal_images": 500,
            "max_abs_difference": 0.0,
            "dense_operators": 36,
            "depthwise_operators": 17,
            "unbounded_operators": [],
        }
    (row,) = (line for line in runs[name].stdout.splitlines() if "exact on every CPU" in line)
    assert row.split()[-3:] == ["-", "yes", "yes"]


@pytest.mark.parametrize("name", ["vnni", "arm"])
def test_eight_bit_models_say_that_they_are_not(runs: Mapping[TargetName, Run], name: TargetName) -> None:
    for artefact in runs[name].report["models"]["int8"].values():
        assert artefact["portability"]["exact_on_every_cpu"] is False
        assert len(artefact["portability"]["unbounded_operators"]) > 10
    assert runs[name].model("-int8").stat().st_size < 600_000


def test_cpu_targets_have_uint8_activations(runs: Mapping[TargetName, Run]) -> None:
    for name in ("portable", "avx2", "vnni", "arm", "qnn"):
        found = zero_points(onnx.load(runs[name].model("-qdq")))
        assert found == {("uint8", True), ("uint8", False)}


def test_tensorrt_gets_symmetric_int8_float_biases_and_its_activations(
    runs: Mapping[TargetName, Run],
) -> None:
    model = onnx.load(runs["tensorrt"].model("-qdq"))
    assert zero_points(model) == {("int8", True)}
    index = GraphIndex(model.graph)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Clip") + kinds.count("Relu") == 35
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            assert index.initializers[node.input[2]].data_type == TensorProto.FLOAT
        if node.op_type in {"Relu", "Clip"}:
            assert [reader.op_type for reader in index.readers(node.output[0])] == ["QuantizeLinear"]
    assert all(scale.size == len(integers) for _, integers, scale in weights(model))
    assert {t.data_type for t in model.graph.initializer} <= {
        TensorProto.FLOAT,
        TensorProto.INT8,
        TensorProto.INT64,
    }


def test_qnn_gets_integer_biases_and_quantized_scores(runs: Mapping[TargetName, Run]) -> None:
    model = onnx.load(runs["qnn"].model("-qdq"))
    index = GraphIndex(model.graph)
    assert index.producer[model.graph.output[0].name].op_type == "DequantizeLinear"
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            bias = index.initializers[index.producer[node.input[2]].input[0]]
            assert bias.data_type == TensorProto.INT32
            scale = index.array(index.producer[node.input[1]].input[1])
            assert scale is not None
            assert (scale.size > 1) is (node.op_type == "Conv")
    assert not [node for node in model.graph.node if node.op_type in {"Relu", "Clip"}]
    dtypes = {numpy_helper.to_array(t).dtype for t in model.graph.initializer}
    assert np.dtype(np.uint8) in dtypes


@pytest.mark.parametrize("name", ["tensorrt", "qnn"])
def test_what_reads_one_format_says_so(runs: Mapping[TargetName, Run], name: TargetName) -> None:
    assert f"target {name} reads QDQ only" in runs[name].stderr
    assert any("only emulates" in warning for warning in runs[name].report["warnings"])
    assert list(runs[name].report["models"]["int8"]) == ["QDQ"]


def test_the_other_format_is_refused_at_once(run_program: Runner) -> None:
    run = run_program("--demo", "--target=tensorrt", "--quant_format=QOperator")
    assert run.code == 2
    assert run.stderr.count("\n") == 1
    assert "reads QDQ only; use quant_format: QDQ" in run.stderr


def test_profile_is_in_the_report_and_on_the_terminal(runs: Mapping[TargetName, Run]) -> None:
    report = runs["tensorrt"].report["models"]
    assert {"Conv", "Gemm"} <= report["fp32"]["profile_ms"].keys()
    assert {"QuantizeLinear", "DequantizeLinear"} <= report["int8"]["QDQ"]["profile_ms"].keys()
    assert "ms of a call (batch 1, 1 thread)" in runs["tensorrt"].stdout
    assert "ms of a call" not in runs["portable"].stdout
    assert runs["portable"].report["models"]["fp32"]["profile_ms"] is None


def test_kernels_are_listed_when_verbose(runs: Mapping[TargetName, Run]) -> None:
    run = runs["avx2"]
    assert "kernels, as ONNX Runtime runs them" in run.stdout
    assert "QLinearConv" in run.stdout
    assert "kernels, as" not in runs["portable"].stdout
    # Before and after, in every report.
    for models in (run.report["models"], runs["portable"].report["models"]):
        assert models["fp32"]["kernels"]["floating"]["Conv"] == 17
        assert models["int8"]["QDQ"]["kernels"]["integer"]["QLinearConv"] == 52
