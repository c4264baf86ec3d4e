"""The QOperator spelling; that it computes bit for bit the same is shown with the QDQ writer's tests."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.export import to_qoperator
from quantize.graph import GraphIndex
from quantize.model import serialize
from tests.quantize.models import ZOO, Net, zoo_case


def kinds(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", ZOO)
def test_same_integers_scales_and_zero_points(name: str) -> None:
    qdq = zoo_case(name).qdq()
    before = serialize(qdq)
    qoperator = to_qoperator(qdq)
    assert serialize(qdq) == before
    mine = {tensor.name: tensor for tensor in qdq.graph.initializer}
    for tensor in qoperator.graph.initializer:
        assert tensor == mine[tensor.name]
    read = {name for node in qoperator.graph.node for name in node.input}
    assert {tensor.name for tensor in qoperator.graph.initializer} <= read
    small = (TensorProto.INT8, TensorProto.UINT8)
    weights = {n for n, t in mine.items() if t.data_type in small and numpy_helper.to_array(t).size > 1}
    assert weights & read == weights


def test_a_network_of_integers_has_one_q_and_one_dq() -> None:
    found = [node.op_type for node in to_qoperator(zoo_case("fire_module").qdq()).graph.node]
    assert found.count("QuantizeLinear") == 1 and found.count("DequantizeLinear") == 1
    assert not {"Conv", "Relu", "Concat"} & set(found)
    index = GraphIndex(to_qoperator(zoo_case("inverted_residual").qdq()).graph)
    assert index.producer["scores"].op_type == "QGemm"


def test_imports_the_runtimes_domain_only_where_it_is_needed() -> None:
    case = zoo_case("fire_module")
    mixed = to_qoperator(case.qdq())
    assert {entry.domain for entry in mixed.opset_import} == {"", "com.microsoft"}
    nothing = to_qoperator(case.qdq([]))
    assert {entry.domain for entry in nothing.opset_import} == {""}


def test_what_stays_float_stays_as_it_was() -> None:
    case = zoo_case("inverted_residual")
    assert kinds(to_qoperator(case.qdq([]))) == kinds(case.prepared)
    half = kinds(to_qoperator(case.qdq(case.operators[:3])))
    assert {"Conv", "QLinearConv", "Gemm", "Add"} <= half


def test_movement_needs_one_scale_for_both_sides() -> None:
    """Another writer may give input and output of a MaxPool scales of their own; then it stays float."""
    net = Net()
    scale, other, zero = net.constant(0.1), net.constant(0.2), net.constant(3, "uint8")
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", "image", scale, zero), scale, zero)
    x = net.node("MaxPool", x, kernel_shape=[2, 2])
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, other, zero), other, zero)
    net.node("Flatten", x, output="scores")
    converted = to_qoperator(net.model(classes=None))
    index = GraphIndex(converted.graph)
    (pool,) = (node for node in converted.graph.node if node.op_type == "MaxPool")
    assert index.producer[pool.input[0]].op_type == "DequantizeLinear"


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul", "Add", "Concat", "Sigmoid", "MaxPool"])
def test_float_operators_without_pairs_are_left(kind: str) -> None:
    node = helper.make_node(kind, ["a", "b"][: 1 if kind in {"Sigmoid", "MaxPool"} else 2], ["y"], "n")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "aby"]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    assert to_qoperator(model).graph.node[0] == node


def test_a_result_that_is_also_the_output_keeps_its_pair() -> None:
    """The float value is asked for, so the operator cannot be fused with the Q behind it."""
    net = Net()
    scale, zero = net.constant(0.1), net.constant(3, "uint8")
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", "image", scale, zero), scale, zero)
    y = net.node("Add", x, x, output="scores")
    net.node("DequantizeLinear", net.node("QuantizeLinear", y, scale, zero), scale, zero)
    assert "Add" in kinds(to_qoperator(net.model(output_shape=[])))
