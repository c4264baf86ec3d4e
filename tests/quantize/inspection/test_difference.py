from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantize.inspection import Difference, differences, differences_text, inspect_model
from tests.quantize.conftest import ModelFiles


def found(left: Path, right: Path) -> dict[str, Difference]:
    return {item.what: item for item in differences(*inspect_model(left), *inspect_model(right))}


def changed(model_files: ModelFiles, folder: Path) -> Path:
    """The QDQ model with one other scale, one other weight, and a remark."""
    model = onnx.load(model_files.qdq)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    scale, weight = tensors["image_scale"], tensors["w1_quantized"]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))
    values = numpy_helper.to_array(weight).copy()
    values.flat[5] += 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    helper.set_model_props(model, {"remark": "\x1b[1mnew"})
    path = folder / "changed.onnx"
    onnx.save(model, path)
    return path


def test_a_file_does_not_differ_from_its_copy(model_files: ModelFiles, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model_files.qdq.read_bytes())
    assert found(model_files.qdq, copy) == {}
    assert differences_text([]) == "the two files are the same, byte for byte"


def test_single_scales_and_weights(model_files: ModelFiles, tmp_path: Path) -> None:
    path = changed(model_files, tmp_path)
    items = found(model_files.qdq, path)
    scale = items["tensors.image.scale"]
    assert scale.right == [2 * value for value in scale.left]
    assert items["constants.w1_quantized.different_values"].left == 1
    assert items["metadata.remark"] == Difference("metadata.remark", None, "\x1b[1mnew")
    assert not any(what.startswith(("operators.", "layers.", "inputs")) for what in items)
    text = differences_text(list(items.values()))
    assert r"metadata.remark: absent → \x1b[1mnew" in text
    assert text.replace("\n", "").isprintable()


def test_fp32_against_int8(model_files: ModelFiles) -> None:
    items = found(model_files.fp32, model_files.qoperator)
    assert items["operators.Conv"] == Difference("operators.Conv", 2, None)
    assert items["operators.QLinearConv"].right == 2
    assert (items["runtime.integer_weighted"].left, items["runtime.integer_weighted"].right) == (0, 3)
    assert "runtime.weighted" not in items
