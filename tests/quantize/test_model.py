"""Reading a classifier: what is accepted, what is found, and what is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from quantize import model as module
from quantize.errors import InputError
from quantize.model import Signature, load_model, read_signature, require_float, save_model, serialize
from tests.quantize.models import CLASSES, EXTENT, ZOO, Net, zoo_case

PATH = Path("net.onnx")


def classifier(**options: Any) -> onnx.ModelProto:
    net = Net(options.pop("opset", 13))
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    return net.model(**options)


def line_of(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text and text.startswith("--input_model")
    return text


def test_reads_what_was_written_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a b.onnx"
    onnx.save(classifier(), path)
    before = path.read_bytes()
    assert load_model(path).graph.node[0].op_type == "Conv"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "has no operators"),
        (b"<html>404: Not Found</html>", "cannot be read as ONNX|is not an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "cannot be read|is not an ONNX"),
    ],
)
def test_refuses_what_is_no_model(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_model(path)
    assert str(path) in line_of(lambda: load_model(path))


def test_refuses_folders_and_truncated_and_invalid_models(tmp_path: Path) -> None:
    assert "is a folder" in line_of(lambda: load_model(tmp_path))
    path = tmp_path / "x.onnx"
    path.write_bytes(classifier().SerializeToString()[:-40])
    assert "cannot be read as ONNX" in line_of(lambda: load_model(path))
    broken = classifier()
    broken.graph.node[1].input[0] = "nobody makes this"
    path.write_bytes(broken.SerializeToString())
    assert "reads 'nobody makes this', which nothing makes" in line_of(lambda: load_model(path))
    broken = classifier()
    broken.graph.node[1].op_type = "Frobnicate"
    path.write_bytes(broken.SerializeToString())
    assert "is not a valid ONNX model (No Op registered for Frobnicate" in line_of(lambda: load_model(path))
    assert load_model(path, strict=False).graph.node[1].op_type == "Frobnicate"


def test_too_little_memory_is_no_fault_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(_: onnx.ModelProto) -> None:
        raise MemoryError("std::bad_alloc")

    path = tmp_path / "m.onnx"
    onnx.save(zoo_case("inverted_residual").prepared, path)
    assert load_model(path).graph.node
    monkeypatch.setattr(onnx.checker, "check_model", out_of_memory)
    with pytest.raises(MemoryError):
        load_model(path)


def test_reads_external_data_and_names_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert load_model(path).graph.initializer[0].raw_data
    (tmp_path / "weights.bin").unlink()
    assert "external data 'weights.bin'" in line_of(lambda: load_model(path))


@pytest.mark.parametrize("qoperator", [False, True])
def test_refuses_a_model_that_is_quantized_already(qoperator: bool) -> None:
    from quantize.export import to_qoperator

    model = zoo_case("inverted_residual").qdq()
    model = to_qoperator(model) if qoperator else model
    assert "is quantized already (operator " in line_of(lambda: require_float(model, PATH))
    require_float(classifier(), PATH)


def test_signature() -> None:
    assert read_signature(classifier(), PATH) == Signature(
        input_name="image",
        input_shape=(None, 3, EXTENT, EXTENT),
        layout="NCHW",
        output_name="scores",
        classes=CLASSES,
        probabilities=False,
        opset=13,
    )


def test_initializers_among_the_inputs_are_no_inputs() -> None:
    model = ZOO["inverted_residual"](7)
    assert len(model.graph.input) > 1
    assert read_signature(model, PATH).input_name == "image"


def test_fixed_batch() -> None:
    assert read_signature(classifier(batch=4), PATH).batch == 4
    assert read_signature(classifier(), PATH).batch is None


@pytest.mark.parametrize(
    ("shape", "transposed", "layout"),
    [
        ([1, 3, 224, 224], False, "NCHW"),
        ([1, 224, 224, 3], True, "NHWC"),
        (["n", 1, 28, 28], False, "NCHW"),
        (["n", None, None, None], True, "NCHW"),
        (["n", None, None, None], False, "NHWC"),
        ([1, 3, 3, 3], False, "NHWC"),
        ([1, 4, 4, 4], True, "NCHW"),
    ],
)
def test_layout(shape: list[Any], transposed: bool, layout: str) -> None:
    assert read_signature(classifier(shape=shape), PATH, transposed=transposed).layout == layout


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        (["n", 1001], 1001),
        ([1, 1000, 1, 1], 1000),
        (["n", 1, 1, 1000], 1000),
        (["n", None], None),
        (["n", None, 1, 1], None),
    ],
)
def test_classes(shape: list[Any], classes: int | None) -> None:
    assert read_signature(classifier(output_shape=shape), PATH).classes == classes


@pytest.mark.parametrize(
    ("behind", "probabilities"),
    [
        ([], False),
        (["Softmax"], True),
        (["Softmax", "Identity"], True),
        (["Softmax", "Flatten"], True),
        (["Identity"], False),
        (["LogSoftmax"], False),
        (["Softmax", "Neg"], False),
    ],
)
def test_probabilities(behind: list[str], probabilities: bool) -> None:
    net = Net()
    x = net.head(net.conv("image", 3, 6), 6, output="logits")
    for kind in behind:
        x = net.node(kind, x)
    net.nodes[-1].output[0] = "scores"
    assert read_signature(net.model(), PATH).probabilities is probabilities


def test_refuses_what_is_no_image_classifier() -> None:
    def changed(change: Callable[[onnx.GraphProto], object]) -> str:
        model = classifier()
        change(model.graph)
        return line_of(lambda: read_signature(model, PATH))

    def value(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    second = value("mask", TensorProto.FLOAT, [1, 3, 4, 4])
    assert "exactly one image input, found 'image', 'mask'" in changed(lambda g: g.input.append(second))
    assert "found none" in changed(lambda g: g.input.pop())
    for kind, shape, message in (
        (TensorProto.UINT8, [1, 3, 4, 4], "'x' is UINT8; a float32 image is needed"),
        (TensorProto.FLOAT16, [1, 3, 4, 4], "'x' is FLOAT16"),
        (TensorProto.FLOAT, [1, 3], "has rank 2"),
    ):
        replacement = value("x", kind, shape)
        assert message in changed(lambda g, v=replacement: g.input[0].CopyFrom(v))
    tokens = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    assert "'x' is no tensor" in changed(lambda g: g.input[0].CopyFrom(tokens))
    extra = value("aux", TensorProto.FLOAT, [1, 5])
    assert "exactly one output, found 'scores', 'aux'" in changed(lambda g: g.output.append(extra))
    for kind, shape, message in (
        (TensorProto.INT64, [1, 5], "output 'y' is INT64; float scores are needed"),
        (TensorProto.FLOAT, [5], "output 'y' has the shape [5]"),
        (TensorProto.FLOAT, [], "output 'y' has the shape []"),
        (TensorProto.FLOAT, ["n", 8, 4, 4], "output 'y' has the shape [any, 8, 4, 4]; a row of scores"),
    ):
        replacement = value("y", kind, shape)
        assert message in changed(lambda g, v=replacement: g.output[0].CopyFrom(v))
    pairs = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    assert "output 'y' is no tensor" in changed(lambda g: g.output[0].CopyFrom(pairs))


def test_metadata_is_sorted_and_the_model_left_alone(tmp_path: Path) -> None:
    model = classifier()
    model.metadata_props.add(key="old", value="1")
    before = model.SerializeToString(deterministic=True)
    save_model(model, tmp_path / "x.onnx", {"b": "2", "a": "1"})
    written = onnx.load(tmp_path / "x.onnx")
    assert [(entry.key, entry.value) for entry in written.metadata_props] == [("a", "1"), ("b", "2")]
    assert model.SerializeToString(deterministic=True) == before == serialize(model)
    assert serialize(model, {"a": "1", "b": "2"}) == (tmp_path / "x.onnx").read_bytes()


def test_too_large_for_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROTOBUF_LIMIT_BYTES", 100)
    with pytest.raises(InputError, match="2 GiB at most"):
        serialize(classifier())


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from quantize.export import to_qoperator
from quantize.model import serialize
from tests.quantize.models import zoo_case
for name in ("inverted_residual", "squeeze_and_excite"):
    qdq = zoo_case(name).qdq()
    for model in (qdq, to_qoperator(qdq)):
        print(hashlib.sha256(serialize(model, {"b": "", "a": ""})).hexdigest())
"""


def test_another_process_makes_the_same_bytes(project_root: Path) -> None:
    """From the float model to both formats, whatever order that process's hash tables have."""
    made = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(project_root)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1 and made.pop().count("\n") == 4


def test_saving_over_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder"):
        save_model(classifier(), tmp_path, {})
    assert list(tmp_path.iterdir()) == []
