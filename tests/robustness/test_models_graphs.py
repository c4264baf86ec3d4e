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
    COMMANDS,
    LOOKING,
    WORKING,
    Bench,
    bench,
    materials,
    refused,
    small_classifier,
)

__all__ = ["bench", "materials"]  # fixtures

REFUSED = "every command refuses it in one line that names what is wrong and where"


def row(done: str, does: str = REFUSED, *, times: int = len(COMMANDS)) -> pytest.MarkDecorator:
    return pytest.mark.robustness("Models", done, does, times=times)


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


def grown(op_type: str, *constants: object, **attributes: object) -> onnx.ModelProto:
    net = Net(13)
    inputs = [net.constant(value, np.int64) for value in constants]
    huge = net.node(op_type, *inputs, **attributes)
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    model = net.model()
    del huge
    return model


def expanded() -> onnx.ModelProto:
    net = Net(13)
    net.node("Expand", net.constant(1.0), net.constant([1 << 20, 1 << 20], np.int64))
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    return net.model()


def padded() -> onnx.ModelProto:
    net = Net(13)
    net.head(net.conv("image", 3, 6, pads=[1 << 30] * 4), 6)
    return net.model()


def hidden_growth() -> onnx.ModelProto:
    """The size comes from arithmetic that shape inference does not follow."""
    net = Net(13)
    size = net.node("Cast", net.node("Exp", net.constant([30.0, 3.0])), to=TensorProto.INT64)
    net.node("Expand", net.constant(1.0), size)
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    return net.model()


HUGE = [1 << 20, 1 << 20]


def grows(extents: list[int] | None = None) -> list[onnx.NodeProto]:
    """One number out of terabytes, or of so many float32; the shape is `size` where it is not given."""
    size = [] if extents is None else [helper.make_node("Constant", [], ["size"], value_ints=extents)]
    return [
        *size,
        helper.make_node("ConstantOfShape", ["size"], ["huge"], "maker"),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
    ]


def grown_in_a_function() -> onnx.ModelProto:
    model = small_classifier()
    opsets = [helper.make_opsetid("", 13)]
    call = helper.make_node("F", [], ["most"], "caller", domain="mine")
    model.functions.append(helper.make_function("mine", "F", [], ["most"], grows(HUGE), opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.insert(0, call)
    return model


def copied_by_a_function() -> onnx.ModelProto:
    """A constant of 1 MB in a function that is called 3,000 times."""
    model = small_classifier()
    values = numpy_helper.from_array(np.zeros(1 << 18, np.float32))
    inside = [helper.make_node("Constant", [], ["y"], value=values)]
    model.functions.append(
        helper.make_function("mine", "F", [], ["y"], inside, [helper.make_opsetid("", 13)])
    )
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.extend(
        helper.make_node("F", [], [f"copy{number}"], f"caller{number}", domain="mine")
        for number in range(3000)
    )
    return model


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


@pytest.mark.parametrize(
    ("made", "phrase"),
    [
        pytest.param(
            grown_in_a_function,
            "would take 4398046511104 bytes",
            marks=row("A function of the model that makes terabytes from a constant"),
        ),
        pytest.param(
            copied_by_a_function,
            "takes more than 2 GiB once its functions are written out",
            marks=row("A function with a constant of 1 MB that is called 3,000 times"),
        ),
        pytest.param(
            lambda: branches(1, grows(HUGE), claimed=[1]),
            "would take 4398046511104 bytes",
            marks=row("A branch that makes terabytes, and says that it makes four bytes"),
        ),
        pytest.param(
            shaped_outside,
            "size cannot be told",
            marks=row("A branch that makes terabytes of a shape from outside"),
        ),
        pytest.param(
            lambda: branches(10, grows([1 << 27])),
            "would take 10737418",
            marks=row("Ten branches that compute a constant of 0.5 GB each"),
        ),
        pytest.param(
            claimed_as_output,
            "cannot be told",
            marks=row("An output of terabytes that is declared as four bytes"),
        ),
        pytest.param(
            lambda: grown("ConstantOfShape", [1 << 20, 1 << 20]),
            "would take 4398046511104 bytes",
            marks=row("Operators that make terabytes from a few constants"),
        ),
        pytest.param(
            expanded,
            "would take 4398046511104 bytes",
            marks=row("Operators that make terabytes from a few constants"),
        ),
        pytest.param(
            lambda: grown("Range", 0, 1 << 50, 1),
            "would take",
            marks=row("Operators that make terabytes from a few constants"),
        ),
        pytest.param(padded, "would take", marks=row("A convolution with pads of 2^30")),
        pytest.param(
            hidden_growth,
            "size cannot be told",
            marks=row("A constant whose size only its computation would tell"),
        ),
    ],
)
def test_graphs_that_grow(
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
