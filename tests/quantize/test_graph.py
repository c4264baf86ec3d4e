"""Look-ups in a graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantize.graph import GraphIndex, attribute, opset_of, tensor_names, tensors_read, unique_name
from tests.quantize.models import Net, zoo_case


def test_producers_consumers_and_constants() -> None:
    net = Net()
    x = net.conv("image", 3, 6)
    net.node("Add", x, x, output="scores")
    index = GraphIndex(net.model().graph)
    assert index.producer[x].op_type == "Conv"
    assert "image" not in index.producer
    assert [node.op_type for node in index.readers(x)] == ["Add"]  # once, though it reads x twice
    assert index.readers("scores") == ()
    assert index.outputs == {"scores"}
    weights = index.array(net.nodes[0].input[1])
    assert weights is not None and weights.shape == (6, 3, 3, 3)
    assert index.array("image") is None
    assert index.element_types["image"] == TensorProto.FLOAT


def test_an_absent_input_is_no_tensor() -> None:
    net = Net(11)
    net.node("Clip", "image", "", net.constant(6.0), output="scores")
    index = GraphIndex(net.model().graph)
    assert "" not in index.consumers and "" not in index.producer


def branches() -> onnx.NodeProto:
    """An If whose branches read `outer` from outside, and an inner If that reads `deep`."""

    def graph(name: str, nodes: list[onnx.NodeProto], output: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [value])

    inner = graph("inner", [helper.make_node("Relu", ["deep"], ["r"])], "r")
    nested = helper.make_node("If", ["flag"], ["n"], then_branch=inner, else_branch=inner)
    one = graph("one", [helper.make_node("Add", ["outer", "own"], ["a"]), nested], "n")
    one.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "own"))
    other = graph("other", [], "passed")
    return helper.make_node("If", ["flag"], ["y"], then_branch=one, else_branch=other)


def test_branches_read_from_outside() -> None:
    assert set(tensors_read(branches())) == {"flag", "outer", "deep", "passed"}
    graph = helper.make_graph([branches()], "g", [], [])
    assert [node.op_type for node in GraphIndex(graph).readers("deep")] == ["If"]
    assert GraphIndex(graph).read_inside == {"outer", "deep", "passed"}
    assert {"own", "a", "r", "n", "y", "passed"} <= tensor_names(graph)


def test_attributes_and_opsets() -> None:
    net = Net(11)
    x = net.node("Softmax", "image", output="scores", axis=1)
    model = net.model()
    assert attribute(model.graph.node[0], "axis", 7) == 1
    assert attribute(model.graph.node[0], "absent", 7) == 7
    assert x == "scores" and opset_of(model) == 11
    del model.opset_import[:]
    assert opset_of(model) == 0
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.opset_import.append(helper.make_opsetid("ai.onnx", 15))
    assert opset_of(model) == 15


def test_unique_names() -> None:
    taken = {"x", "x_2"}
    assert [unique_name("x", taken), unique_name("x", taken), unique_name("y", taken)] == ["x_3", "x_4", "y"]
    assert {"x_3", "x_4", "y"} <= taken


def test_tensor_names_of_a_model() -> None:
    names = tensor_names(zoo_case("inverted_residual").prepared.graph)
    assert {"image", "scores"} <= names
