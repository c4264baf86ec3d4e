from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.errors import InputError
from quantize.graph import GraphIndex
from quantize.inspection import tensor_facts, tensor_text
from quantize.inspection.quantities import quantities_of
from tests.quantize.conftest import ModelFiles


def quantized_relu(scale: float = 0.5, zero_point: int = 3) -> onnx.ModelProto:
    """x → Q → DQ → Relu → y, with per-channel weights beside it."""
    constants = [
        numpy_helper.from_array(np.array(scale, np.float32), "s"),
        numpy_helper.from_array(np.array(zero_point, np.uint8), "z"),
        numpy_helper.from_array(np.array([0.1, 0.2], np.float32), "ws"),
        numpy_helper.from_array(np.array([0, 0], np.int8), "wz"),
        numpy_helper.from_array(np.array([[1, 2, 3], [4, 5, 6]], np.int8), "w"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "weights", axis=0),
        helper.make_node("MatMul", ["d", "wd"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_range_is_what_the_integers_can_say() -> None:
    facts = tensor_facts(quantized_relu(), "x")
    assert facts.quantities is not None
    assert facts.quantities.range == (-1.5, 126.0)  # (0 - 3) / 2 and (255 - 3) / 2
    assert facts.to_json()["quantization"] == {
        "dtype": "uint8",
        "scale": [0.5],
        "zero_point": [3],
        "axis": None,
        "range": [-1.5, 126.0],
        "told_by": "quantize",
    }
    assert facts.read_by == ("quantize",)
    assert facts.made_by is None


@pytest.mark.parametrize("name", ["q", "d"])
def test_both_sides_of_q_and_dq_are_the_same_tensor(name: str) -> None:
    model = quantized_relu()
    one, other = tensor_facts(model, "x").quantities, tensor_facts(model, name).quantities
    assert one is not None and other is not None
    assert (one.scale, one.zero_point) == (other.scale, other.zero_point)


def test_one_scale_for_each_channel() -> None:
    facts = tensor_facts(quantized_relu(), "w")
    assert facts.constant
    assert facts.shape == (2, 3)
    assert facts.quantities is not None
    assert facts.quantities.scale == pytest.approx((0.1, 0.2))
    assert facts.quantities.axis == 0
    assert facts.quantities.range == pytest.approx((-25.6, 25.4))
    assert "0.1, 0.2" in tensor_text(facts)


def test_a_tensor_may_be_named_by_its_operator_and_need_not_be_quantized() -> None:
    facts = tensor_facts(quantized_relu(), "product")
    assert facts.name == "y"
    assert facts.quantities is None
    assert facts.to_json()["quantization"] is None
    assert "quantized                  no" in tensor_text(facts)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(InputError, match="--tensor prodct: the model has none; did you mean 'product'"):
        tensor_facts(quantized_relu(), "prodct")


def test_both_spellings_tell_the_same_scales(model_files: ModelFiles) -> None:
    """What QDQ keeps in Q and DQ, QOperator keeps in the operators' own inputs."""
    qdq, qoperator = (
        quantities_of(GraphIndex(onnx.load(path).graph)) for path in (model_files.qdq, model_files.qoperator)
    )
    common = {
        name: found
        for name, found in qdq.items()
        if name in qoperator and name.endswith(("_quantized", "_QuantizeLinear_Output"))
    }
    assert len(common) >= 3
    for name, found in common.items():
        assert found.zero_point == qoperator[name].zero_point, name
        assert found.scale == qoperator[name].scale, name
