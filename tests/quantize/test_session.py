"""Sessions and batches: settings, shapes, and errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantize import session as module
from quantize.errors import EngineError, InputError
from quantize.session import input_shape, make_session, outputs


def test_sources_of_every_kind_give_the_same_outputs(model_files: Any) -> None:
    path = model_files.fp32
    sources = [path, str(path), path.read_bytes(), onnx.load(path)]
    found = [outputs(make_session(source, threads=1), model_files.images) for source in sources]
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_one_thread_and_two_agree_bit_for_bit_for_integers(model_files: Any) -> None:
    one, two = (outputs(make_session(model_files.qoperator, threads=n), model_files.images) for n in (1, 2))
    assert np.array_equal(one, two)


def test_settings_reach_the_session(model_files: Any) -> None:
    session = make_session(model_files.fp32, threads=2, config_entries={"session.x64quantprecision": "1"})
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    assert session.get_providers() == ["CPUExecutionProvider"]
    spinning = make_session(model_files.fp32, threads=2, spinning=True).get_session_options()
    assert spinning.get_session_config_entry("session.intra_op.allow_spinning") == "1"


def test_optimization_levels_are_honoured(model_files: Any, tmp_path: Path) -> None:
    counts = {}
    for level in ("none", "extended"):
        make_session(
            model_files.qdq, threads=1, optimization=level, optimized_path=tmp_path / f"{level}.onnx"
        )
        counts[level] = len(onnx.load(tmp_path / f"{level}.onnx").graph.node)
    assert counts["extended"] < counts["none"]


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.onnx: does not exist"):
        make_session(tmp_path / "absent.onnx", threads=1)


def test_no_threads_are_refused(model_files: Any) -> None:
    with pytest.raises(InputError, match="threads: 0"):
        make_session(model_files.fp32, threads=0)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_rubbish_is_one_line_with_its_cause(tmp_path: Path, as_bytes: bool) -> None:
    path = tmp_path / "rubbish.onnx"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(EngineError if as_bytes else InputError) as caught:
        make_session(path.read_bytes() if as_bytes else path, threads=1)
    message = str(caught.value)
    assert message.startswith("model in memory: " if as_bytes else f"{path}: ")
    assert "\n" not in message
    assert caught.value.__cause__ is not None


def test_a_message_too_large_is_refused_before_serializing(
    model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROTOBUF_LIMIT_BYTES", 100)
    with pytest.raises(EngineError, match="more than a protobuf message can hold"):
        make_session(onnx.load(model_files.fp32), threads=1)


def test_a_fixed_batch_runs_any_number_of_images(make_classifier: Any, model_files: Any) -> None:
    fixed, dynamic = (make_session(make_classifier(batch=batch), threads=1) for batch in (4, "n"))
    assert input_shape(fixed) == (4, 3, 8, 8)
    assert input_shape(dynamic) == (None, 3, 8, 8)
    for count in (1, 4, 10):
        expected = outputs(dynamic, model_files.images[:count])
        found = outputs(fixed, model_files.images[:count])
        assert found.shape == (count, 7)
        # A float kernel may sum in another order for another batch size.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_spatial_outputs_are_flattened_and_half_precision_is_cast(
    make_classifier: Any, model_files: Any
) -> None:
    spatial = outputs(make_session(make_classifier(keep_spatial=True), threads=1), model_files.images)
    assert spatial.shape == (24, 7)
    half = outputs(make_session(make_classifier(float16=True), threads=1), model_files.images)
    assert half.dtype == np.float16


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 8, 8, 3), (2, 3, 8), (3, 8, 8)])
def test_images_of_the_wrong_shape_name_both_sides(model_files: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"transforms give .* wants \[3, 8, 8\].*CenterCrop.*Transpose"):
        outputs(make_session(model_files.fp32, threads=1), np.zeros(shape, np.float32))


def test_an_empty_batch_is_refused(model_files: Any) -> None:
    with pytest.raises(InputError, match="the batch is empty"):
        outputs(make_session(model_files.fp32, threads=1), np.zeros((0, 3, 8, 8), np.float32))


def tiny(nodes: list[onnx.NodeProto], inputs: list[tuple[str, int, list[Any]]], kind: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_integer_images_and_several_inputs_are_refused() -> None:
    integers = tiny(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", TensorProto.INT64, ["n", 2])], TensorProto.INT64
    )
    with pytest.raises(InputError, match=r"tensor\(int64\); only float images"):
        outputs(make_session(integers, threads=1), np.zeros((1, 2), np.float32))
    floats = [(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b")]
    several = tiny([helper.make_node("Add", ["a", "b"], ["y"])], floats, TensorProto.FLOAT)
    with pytest.raises(InputError, match="model inputs: a, b"):
        outputs(make_session(several, threads=1), np.zeros((1, 2), np.float32))


@pytest.mark.parametrize(
    ("operator", "kind"), [("Identity", TensorProto.FLOAT), ("ArgMax", TensorProto.INT64)]
)
def test_outputs_that_are_no_scores_are_refused(operator: str, kind: int) -> None:
    model = tiny([helper.make_node(operator, ["x"], ["y"])], [("x", TensorProto.FLOAT, ["n", 2, 3])], kind)
    with pytest.raises(InputError, match="only classifiers are supported: give one whose only output is"):
        outputs(make_session(model, threads=1), np.zeros((2, 2, 3), np.float32))


def test_a_failing_operator_names_the_model() -> None:
    # Five numbers cannot be put into rows of two.
    model = tiny(
        [
            helper.make_node("Constant", [], ["shape"], value_ints=[-1, 2]),
            helper.make_node("Reshape", ["x", "shape"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["n", "c"])],
        TensorProto.FLOAT,
    )
    with pytest.raises(EngineError, match="int8: ONNX Runtime failed on a batch"):
        outputs(make_session(model, threads=1), np.zeros((1, 5), np.float32), model="int8")


def test_the_runtime_sends_and_writes_nothing_about_the_user(model_files: Any, tmp_path: Path) -> None:
    """Its telemetry keeps an identifier in the home folder and a session file among the temporary ones."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "import sys; from quantize.session import make_session; make_session(sys.argv[1], threads=1)"
    root = str(Path(module.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, str(model_files.fp32)], env=environment, cwd=root, check=True)
    assert list(home.rglob("*")) == []
    assert list(temporary.rglob("*")) == []
