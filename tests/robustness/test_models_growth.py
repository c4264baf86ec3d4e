"""Graphs that ask for more memory than any machine has, out of a few constants, in plain sight or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.quantize.net import Net
from tests.robustness.model_commands import Bench, bench, materials, refused, small_classifier
from tests.robustness.test_models_graphs import row

__all__ = ["bench", "materials"]  # fixtures


def beside(*grow: Callable[[Net], object]) -> onnx.ModelProto:
    """A small classifier in a graph that computes something else as well."""
    net = Net(13)
    for step in grow:
        step(net)
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    return net.model()


def grown(op_type: str, *constants: object) -> onnx.ModelProto:
    return beside(lambda net: net.node(op_type, *(net.constant(value, np.int64) for value in constants)))


def expanded() -> onnx.ModelProto:
    return beside(lambda net: net.node("Expand", net.constant(1.0), net.constant(HUGE, np.int64)))


def padded() -> onnx.ModelProto:
    net = Net(13)
    net.head(net.conv("image", 3, 6, pads=[1 << 30] * 4), 6)
    return net.model()


def hidden_growth() -> onnx.ModelProto:
    """The size comes from arithmetic that shape inference does not follow."""

    def grow(net: Net) -> None:
        size = net.node("Cast", net.node("Exp", net.constant([30.0, 3.0])), to=TensorProto.INT64)
        net.node("Expand", net.constant(1.0), size)

    return beside(grow)


HUGE = [1 << 20, 1 << 20]


def grows(extents: list[int] | None = None) -> list[onnx.NodeProto]:
    """One number out of terabytes, or of so many float32; the shape is `size` where it is not given."""
    size = [] if extents is None else [helper.make_node("Constant", [], ["size"], value_ints=extents)]
    return [
        *size,
        helper.make_node("ConstantOfShape", ["size"], ["huge"], "maker"),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
    ]


def calling(inside: list[onnx.NodeProto], result: str, *made: str) -> onnx.ModelProto:
    """A classifier with a function of its own, called once for each tensor that it makes."""
    model = small_classifier()
    opsets = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("mine", "F", [], [result], inside, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    calls = [helper.make_node("F", [], [name], f"caller of {name}", domain="mine") for name in made]
    model.graph.node.extend(calls)
    return model


def grown_in_a_function() -> onnx.ModelProto:
    return calling(grows(HUGE), "most", "most")


def copied_by_a_function() -> onnx.ModelProto:
    """A constant of 1 MB in a function that is called 3,000 times."""
    values = numpy_helper.from_array(np.zeros(1 << 18, np.float32))
    inside = [helper.make_node("Constant", [], ["y"], value=values)]
    return calling(inside, "y", *(f"copy{number}" for number in range(3000)))


def branches(count: int, inside: list[onnx.NodeProto], claimed: list[int] | None = None) -> onnx.ModelProto:
    """`count` Ifs whose condition is a constant; `claimed`: the shape that each says `huge` has."""
    model = small_classifier()
    scalar = helper.make_tensor_value_info("most", TensorProto.FLOAT, [])
    said = [] if claimed is None else [helper.make_tensor_value_info("huge", TensorProto.FLOAT, claimed)]
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    for number in range(count):
        graph = helper.make_graph(inside, "branch", [], [scalar], value_info=said)
        model.graph.node.append(
            helper.make_node("If", ["yes"], [f"if{number}"], then_branch=graph, else_branch=graph)
        )
    return model


def shaped_outside() -> onnx.ModelProto:
    """The shape is a Constant of the main graph, and what it makes is in a branch."""
    model = branches(1, grows())
    model.graph.node.insert(0, helper.make_node("Constant", [], ["size"], value_ints=HUGE))
    return model


def claimed_as_output() -> onnx.ModelProto:
    model = small_classifier()
    model.graph.node.extend(grows(HUGE))
    model.graph.output.append(helper.make_tensor_value_info("huge", TensorProto.FLOAT, [1]))
    return model


# Row of docs/robustness.md, graph, and what is said of it.
GRAPHS: list[tuple[str, Callable[[], onnx.ModelProto], str]] = [
    (
        "A function of the model that makes terabytes from a constant",
        grown_in_a_function,
        "would take 4398046511104 bytes",
    ),
    (
        "A function with a constant of 1 MB that is called 3,000 times",
        copied_by_a_function,
        "takes more than 2 GiB once its functions are written out",
    ),
    (
        "A branch that makes terabytes, and says that it makes four bytes",
        lambda: branches(1, grows(HUGE), claimed=[1]),
        "would take 4398046511104 bytes",
    ),
    ("A branch that makes terabytes of a shape from outside", shaped_outside, "size cannot be told"),
    (
        "Ten branches that compute a constant of 0.5 GB each",
        lambda: branches(10, grows([1 << 27])),
        "would take 10737418",
    ),
    ("An output of terabytes that is declared as four bytes", claimed_as_output, "cannot be told"),
    (
        "Operators that make terabytes from a few constants",
        lambda: grown("ConstantOfShape", HUGE),
        "would take 4398046511104 bytes",
    ),
    ("Operators that make terabytes from a few constants", expanded, "would take 4398046511104 bytes"),
    (
        "Operators that make terabytes from a few constants",
        lambda: grown("Range", 0, 1 << 50, 1),
        "would take",
    ),
    ("A convolution with pads of 2^30", padded, "would take"),
    ("A constant whose size only its computation would tell", hidden_growth, "size cannot be told"),
]


@pytest.mark.parametrize(
    ("made", "phrase"), [pytest.param(made, phrase, marks=row(text)) for text, made, phrase in GRAPHS]
)
def test_graphs_that_grow(
    made: Callable[[], onnx.ModelProto], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(made())
    refused(bench, capsys, phrase)
