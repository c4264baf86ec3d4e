from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.errors import InputError
from quantize.inspection import inspect_model, model_text, operators_text
from tests.quantize.conftest import CLASSES, ModelFiles


def test_a_float_model(model_files: ModelFiles) -> None:
    facts, model = inspect_model(model_files.fp32)
    content = model_files.fp32.read_bytes()
    assert (facts.sha256, facts.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert facts.opsets == {"ai.onnx": 13}
    assert [port.to_json() for port in facts.inputs] == [
        {"name": "image", "dtype": "FLOAT", "shape": ["n", 3, 8, 8]}
    ]
    assert facts.outputs[0].shape == ("n", CLASSES)
    assert facts.operators == {
        "Conv": 2,
        "Flatten": 1,
        "Gemm": 1,
        "GlobalAveragePool": 1,
        "MaxPool": 1,
        "Relu": 1,
    }
    assert [(layer.name, layer.size_bytes) for layer in facts.layers] == [
        ("conv_1", 4 * (8 * 3 * 9 + 8)),
        ("conv_2", 4 * (8 * 8 * 9 + 8)),
        ("classifier", 4 * (8 * CLASSES + CLASSES)),
    ]
    assert facts.constants_bytes == sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    assert facts.coverage is not None
    assert (facts.coverage.integer_weighted, facts.coverage.weighted) == (0, 3)


@pytest.mark.parametrize("spelling", ["qdq", "qoperator"])
def test_an_integer_model(spelling: str, model_files: ModelFiles) -> None:
    facts, model = inspect_model(getattr(model_files, spelling))
    assert facts.coverage is not None
    assert facts.coverage.integer_weighted == 3
    weights = {layer.name: layer.dtype for layer in facts.layers if layer.op_type in ("Conv", "QLinearConv")}
    assert set(weights.values()) == {"INT8"}
    # Scales and zero points are constants of some operator too: nothing is lost, nothing counted twice.
    assert facts.constants_bytes == sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)


@pytest.mark.parametrize("spelling", ["qdq", "qoperator"])
def test_every_operator_with_its_precision(spelling: str, model_files: ModelFiles) -> None:
    facts, _ = inspect_model(getattr(model_files, spelling))
    assert facts.coverage is not None
    integer = Counter(run.op_type for run in facts.runs if run.precision == "integer")
    assert integer == facts.coverage.integer
    assert facts.runs[0].precision == "quantize"
    assert [run.op_type for run in facts.runs if run.op_type == "QLinearConv"] == ["QLinearConv"] * 2
    lines = operators_text(facts).splitlines()
    assert len(lines) == len(facts.runs) == len(facts.to_json()["runtime"]["operators"])
    assert lines[0].startswith("float → integer   QuantizeLinear")


def test_a_model_that_does_not_run_is_still_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    graph = helper.make_graph(
        [helper.make_node("Magic", ["x"], ["y"], domain="acme")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("acme", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    facts, _ = inspect_model(path)
    assert facts.coverage is None
    assert "acme" in facts.problem
    assert facts.operators == {"acme.Magic": 1}
    assert facts.opsets == {"ai.onnx": 13, "acme": 3}
    assert facts.to_json()["runtime"] is None
    assert "cannot load" in model_text(facts)
    assert "cannot load" in operators_text(facts)


def test_names_cannot_talk_to_the_terminal(model_files: ModelFiles, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.load(model_files.fp32)
    model.graph.node[0].name = "\x1b[2Jconv"
    model.producer_name = "\x1b]0;me\x07"
    helper.set_model_props(model, {"\x1bkey": "value\u202e"})
    onnx.save(model, path)
    text = model_text(inspect_model(path)[0], all_layers=True)
    assert text.replace("\n", "").isprintable()
    assert r"\x1b[2Jconv" in text
    assert r"value\u202e" in text


def test_only_the_largest_layers_are_shown_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nodes, constants = [], []
    for i in range(12):
        constants.append(numpy_helper.from_array(np.ones(i + 1, np.float32), f"w{i}"))
        nodes.append(helper.make_node("Add", ["x", f"w{i}"], [f"y{i}"], f"add_{i}"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [1])],
        [value(f"y{i}", TensorProto.FLOAT, [i + 1]) for i in range(12)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    facts, _ = inspect_model(path)
    short, full = model_text(facts), model_text(facts, all_layers=True)
    assert [f"add_{i}\n" in f"{short}\n" for i in range(12)] == [False] * 2 + [True] * 10
    assert all(f"add_{i}\n" in f"{full}\n" for i in range(12))


def test_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match=r"^.*m\.onnx: "):
        inspect_model(path)
