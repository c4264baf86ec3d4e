"""What runs in integers: read from ONNX Runtime's own optimized graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize import kernels
from quantize.errors import EngineError, InputError
from quantize.kernels import graph_coverage, integer_coverage


def test_fp32_has_no_integer_kernel(model_files: Any) -> None:
    coverage = integer_coverage(model_files.fp32)
    assert coverage.integer == {}
    assert (coverage.integer_weighted, coverage.weighted) == (0, 3)
    assert coverage.float_weighted_operators == ("conv_1", "conv_2", "classifier")
    assert (coverage.quantize, coverage.dequantize) == (0, 0)


@pytest.mark.parametrize("which", ["qoperator", "qdq"])
def test_both_formats_run_fully_in_integers(model_files: Any, which: str) -> None:
    coverage = integer_coverage(getattr(model_files, which))
    assert coverage.integer["QLinearConv"] == 2
    assert (coverage.integer_weighted, coverage.weighted) == (3, 3)
    assert coverage.integer["MaxPool"] == 1  # type-agnostic, on bytes here
    assert coverage.float_weighted_operators == ()
    assert coverage.floating == {}
    assert (coverage.quantize, coverage.dequantize) == (1, 1)


def test_an_operator_left_in_float_is_named(model_files: Any, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantFormat, quantize_static

    class Reader:
        def __init__(self) -> None:
            self.images = iter(model_files.images[:4])

        def get_next(self) -> Any:
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    # Its neighbours stay in float too: right between Q/DQ, ONNX Runtime would quantize its weights by itself.
    island = ["pool", "conv_2", "average"]
    path = tmp_path / "mixed.onnx"
    quantize_static(
        str(model_files.fp32), str(path), Reader(), quant_format=QuantFormat.QDQ, nodes_to_exclude=island
    )
    coverage = integer_coverage(path)
    assert coverage.float_weighted_operators == ("conv_2",)
    assert coverage.integer_weighted == 2
    assert coverage.quantize >= 2  # once more behind the float island


def test_weights_that_are_only_dequantized_are_float(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.int8), "w8")
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w8", "s"], ["w"], "dq"),
            helper.make_node("Conv", ["x", "w"], ["y"], "conv"),
        ],
        "weight_only",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight, scale],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    assert integer_coverage(path).float_weighted_operators == ("conv",)


def hand_made(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    zero = numpy_helper.from_array(np.uint8(0), "zero")
    zero16 = numpy_helper.from_array(np.uint16(0), "zero16")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 2, 2])
    return helper.make_graph(list(nodes), "g", [image], [], [zero, zero16])


def test_element_types_are_followed_through_every_domain() -> None:
    make = helper.make_node
    coverage = graph_coverage(
        hand_made(
            make("QuantizeLinear", ["x", "s", "zero"], ["q"]),
            make(
                "QLinearConv",
                ["q", "s", "zero", "w", "s", "wz", "s", "zero"],
                ["c"],
                domain="com.ms.internal.nhwc",
            ),
            make("Transpose", ["c"], ["t"]),
            make("QGemm", ["t", "s", "zero", "w", "s", "wz", "b"], ["logits"], domain="com.microsoft"),
            make("Softmax", ["logits"], ["p"]),
            make(
                "QGemm", ["t", "s", "zero", "w", "s", "wz", "b", "s", "zero"], ["q2"], domain="com.microsoft"
            ),
            make("Flatten", ["q2"], ["f"]),
            make("DequantizeLinear", ["f", "s", "zero"], ["d"]),
            make("FusedConv", ["d", "wf"], ["y"], domain="com.microsoft"),
            make("QuantizeLinear", ["y", "s", "zero16"], ["q16"]),
            make("MaxPool", ["q16"], ["m16"]),
        )
    )
    assert coverage.integer == {"Flatten": 1, "MaxPool": 1, "QGemm": 2, "QLinearConv": 1, "Transpose": 1}
    assert coverage.floating == {"FusedConv": 1, "Softmax": 1}
    assert coverage.float_weighted_operators == ("y",)  # without a name, its output stands for it
    assert (coverage.quantize, coverage.dequantize) == (2, 1)


def test_dynamic_quantization_counts_as_integer() -> None:
    make = helper.make_node
    coverage = graph_coverage(
        hand_made(
            make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            make("ConvInteger", ["q", "w8", "z"], ["i"]),
            make("Cast", ["i"], ["f"]),
            make("MatMulIntegerToFloat", ["q", "w8", "s", "ws"], ["g"], domain="com.microsoft"),
            make("Relu", ["g"], ["y"]),
            make("Constant", [], ["shape"]),
        )
    )
    assert coverage.integer == {"ConvInteger": 1, "MatMulIntegerToFloat": 1}
    assert coverage.floating == {"Relu": 1}
    assert coverage.weighted == 2


def test_bad_files_are_refused(tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not exist"):
        integer_coverage(tmp_path / "absent.onnx")
    monkeypatch.setattr(kernels, "make_session", lambda *_args, **_settings: None)
    with pytest.raises(EngineError, match="optimized graph cannot be read"):
        integer_coverage(model_files.fp32)


def test_the_real_model_is_fully_float(shared_dir: Path) -> None:
    coverage = integer_coverage(shared_dir / "models" / "mobilenetv2-12.onnx")
    assert (coverage.integer_weighted, coverage.weighted) == (0, 53)
