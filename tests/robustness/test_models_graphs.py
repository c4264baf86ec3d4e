"""Graphs that are none, or that never end, or that want more than any machine has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.cli import main
from quantize.loading.limits import OPERATOR_LIMIT_COUNT
from tests.quantize.net import Net
from tests.robustness.model_commands import (
    CLASSIFYING,
    COMMANDS,
    LOOKING,
    WORKING,
    Bench,
    bench,
    error_of,
    materials,
    refused,
    row,
    small_classifier,
)

__all__ = ["bench", "materials"]  # fixtures


def ours(change: Callable[[onnx.GraphProto], object]) -> onnx.ModelProto:
    model = small_classifier()
    change(model.graph)
    return model


def relu(read: str, made: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [read], [made], name)


def unsorted(graph: onnx.GraphProto) -> None:
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([nodes[1], nodes[0], *nodes[2:]])


def cycle(graph: onnx.GraphProto) -> None:
    graph.node.insert(0, relu("b", "a", "first"))
    graph.node.insert(1, relu("a", "b", "second"))


def functions_that_call(*calls: tuple[str, list[str]]) -> onnx.ModelProto:
    """A model with functions of its own: name, and the operators in it (of the same domain, or Relu)."""
    model = small_classifier()
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("mine", 1)]
    model.opset_import.append(helper.make_opsetid("mine", 1))
    for name, inside in calls:
        nodes = [
            helper.make_node(kind, ["x"], [f"y{i}"], domain="" if kind == "Relu" else "mine")
            for i, kind in enumerate(inside)
        ]
        model.functions.append(helper.make_function("mine", name, ["x"], ["y0"], nodes, opsets))
    model.graph.node.append(helper.make_node(calls[0][0], ["image"], ["extra"], "caller", domain="mine"))
    return model


def function_bomb() -> onnx.ModelProto:
    """F0 calls F1 twice, which calls F2 twice, … : 2^40 operators."""
    levels = [(f"F{i}", [f"F{i + 1}"] * 2) for i in range(40)]
    return functions_that_call(*levels, ("F40", ["Relu"]))


def loop() -> onnx.ModelProto:
    """2^62 times round."""
    model = small_classifier()
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(1 << 62), "times"))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    model.graph.node.append(helper.make_node("Loop", ["times", "yes"], [], "endless", body=body))
    return model


def sparse() -> onnx.ModelProto:
    """One value in a matrix of 2^60."""
    model = small_classifier()
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "where")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 30, 1 << 30]))
    return model


@pytest.mark.parametrize(
    ("made", "phrase"),
    [
        pytest.param(lambda: ours(cycle), "is cyclic: Relu 'first'", marks=row("A graph with a circle")),
        pytest.param(
            lambda: ours(lambda g: g.node.append(relu("z", "z", "own"))),
            "is cyclic: Relu 'own'",
            marks=row("A graph with a circle"),
        ),
        pytest.param(
            lambda: ours(lambda g: g.node.append(relu("nowhere", "x", "lost"))),
            "Relu 'lost' reads 'nowhere', which nothing makes",
            marks=row("An operator that reads what nothing makes"),
        ),
        pytest.param(
            lambda: ours(lambda g: g.output[0].MergeFrom(onnx.ValueInfoProto(name="nowhere"))),
            "output 'nowhere' is made by no operator",
            marks=row("An output that nothing makes"),
        ),
        pytest.param(
            lambda: ours(unsorted), "operators must be sorted", marks=row("Operators in the wrong order")
        ),
        pytest.param(
            lambda: ours(lambda g: g.node.append(relu("image", "t3", "again"))),
            "'t3' is made twice",
            marks=row("Two operators that make the same tensor"),
        ),
        pytest.param(
            lambda: ours(lambda g: g.node.append(relu("image", "c1", "over"))),
            "makes 'c1', which is an input or initializer already",
            marks=row("An operator that makes an initializer"),
        ),
        pytest.param(
            lambda: ours(lambda g: g.initializer.append(g.initializer[0])),
            "has two initializers of the name 'c1'",
            marks=row("Two initializers of the same name"),
        ),
        pytest.param(
            lambda: ours(lambda g: g.input.append(g.input[0])),
            "has two inputs of the name 'image'",
            marks=row("Two inputs of the same name"),
        ),
        pytest.param(
            lambda: functions_that_call(("F", ["G"]), ("G", ["F"])),
            "calls itself",
            marks=row("Functions of the model that call each other in a circle"),
        ),
        pytest.param(
            function_bomb,
            f"has more than {OPERATOR_LIMIT_COUNT} operators",
            marks=row("Forty functions that each call the next twice: 2^40 operators"),
        ),
        pytest.param(loop, "'endless' repeats the graph inside it", marks=row("A Loop of 2^62 rounds")),
        pytest.param(sparse, "sparse", marks=row("A sparse weight of 2^60 numbers")),
    ],
)
def test_graphs_that_are_none(
    made: Callable[[], onnx.ModelProto], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(made())
    refused(bench, capsys, phrase)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(
            helper.make_node("Frobnicate", ["image"], ["unused"], "odd"),
            marks=row("An operator that ONNX does not have", "commands that run it refuse it by name"),
        ),
        pytest.param(
            helper.make_node("Frobnicate", ["image"], ["unused"], "odd", domain="evil.example"),
            marks=row("An operator of an unknown domain", "commands that run it refuse it by name"),
        ),
        pytest.param(
            helper.make_node(
                "EPContext", ["image"], ["unused"], "odd", domain="com.microsoft",
                embed_mode=0, ep_cache_context="../secrets/engine.bin", main_context=1,
            ),
            marks=row(
                "An EPContext that names a compiled engine outside the folder",
                "commands that run it refuse it by name",
            ),
        ),
    ],
)  # fmt: skip
def test_unknown_operators(node: onnx.NodeProto, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_classifier()
    model.graph.node.append(node)
    model.graph.node[-2].output[0], model.graph.node[-1].input[0] = "inner", "inner"
    model.graph.node[-1].output[0] = "scores"
    if node.domain:
        model.opset_import.append(helper.make_opsetid(node.domain, 1))
    bench.put(model)
    others = ("package", "tune --start_from")  # they want a report, or a quantized model, first
    working = tuple(name for name in WORKING if name not in others)
    refused(bench, capsys, node.op_type, commands=working, codes=(2, 3))
    for name in LOOKING:
        code = main(COMMANDS[name](bench.model, bench))
        out, err = capsys.readouterr()
        assert code in (0, 1, 2) and "internal error" not in err
        assert node.op_type in out + err or name == "prepare model"


def map_of_unknown_extents() -> onnx.ModelProto:
    """A convolution's result, declared as four numbers that nobody knows."""
    net = Net(13)
    features = net.relu(net.conv("image", 3, 6))
    net.head(features, 6)
    model = net.model()
    shape = ["n", "a", "b", "c"]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(features, TensorProto.FLOAT, shape))
    return model


# What looks at scores; exports only compare them.
SCORING = tuple(name for name in CLASSIFYING if not name.startswith("export"))


@row(
    "An output of undeclared extents that is no row of scores",
    "every command that looks at scores refuses it in one line that says what is needed",
    times=1,
)
@pytest.mark.parametrize("name", SCORING)
def test_an_output_that_is_no_scores(name: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    line = error_of(name, bench.put(map_of_unknown_extents()), bench, capsys)
    assert "only classifiers are supported: give one whose only output is a row of scores" in line
