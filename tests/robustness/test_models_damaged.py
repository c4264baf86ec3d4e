"""Files that are damaged or lie about their size, and graphs that are none: refused early, in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.cli import main
from quantize.errors import PipelineError
from quantize.loading.limits import OPERATOR_LIMIT_COUNT
from quantize.model import load_model, read_signature
from quantize.session import make_session
from tests.quantize.net import Net
from tests.robustness.model_commands import (
    COMMANDS,
    LOOKING,
    WORKING,
    Bench,
    bench,
    error_of,
    materials,
    refused,
    small_classifier,
)

__all__ = ["bench", "materials"]  # fixtures

FLIPS = 600
CUTS = 120
REFUSED = "every command refuses it in one line that names what is wrong and where"


def row(done: str, does: str = REFUSED, *, times: int = len(COMMANDS)) -> pytest.MarkDecorator:
    return pytest.mark.robustness("Models", done, does, times=times)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def many_empty_operators() -> bytes:
    """4 MB of `node {}`, which would be 200 MB of objects."""
    return varint(8) + varint(8) + field(7, field(1, b"") * 2_100_000)


def spelled_numbers() -> bytes:
    """300 MB of zeros in a packed field: 2.4 GB of int64."""
    tensor = field(7, bytes(300 << 20))
    return varint(8) + varint(8) + field(7, field(5, tensor))


def nested() -> bytes:
    graph = b""
    for _ in range(120):
        graph = field(1, field(5, field(6, graph)))  # node { attribute { g } }
    return field(7, graph)


def git_lfs() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"


def json_text() -> bytes:
    """What onnx would read as a model if the file were called .json."""
    return b'{"irVersion": "8", "graph": {"node": [{"opType": "Relu"}]}}'


def name_that_is_no_text() -> bytes:
    return small_classifier().SerializeToString().replace(b"image", b"im\xffge")


def cut_off() -> bytes:
    return small_classifier().SerializeToString()[:-100]


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        pytest.param(bytes, "has no operators", marks=row("An empty file")),
        pytest.param(git_lfs, "", marks=row("A file that is no ONNX: a Git LFS pointer, JSON")),
        pytest.param(json_text, "", marks=row("A file that is no ONNX: a Git LFS pointer, JSON")),
        pytest.param(cut_off, "is cut off or damaged", marks=row("A file that is cut off")),
        pytest.param(name_that_is_no_text, "a name in it is no text", marks=row("Names that are no UTF-8")),
        pytest.param(nested, "is nested more than 100 deep", marks=row("Graphs in graphs, 120 deep")),
        pytest.param(
            many_empty_operators,
            "has more than 2000000 fields",
            marks=row("Millions of empty operators, which would be a hundred times their size in memory"),
        ),
    ],
)
def test_what_is_no_model(
    content: Callable[[], bytes], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(content())
    # A pass over millions of fields takes a second: one command of each kind will do for it.
    few = ("evaluate",) if content is many_empty_operators else tuple(COMMANDS)
    refused(bench, capsys, phrase, commands=few)


@row("Numbers spelled one by one, which would be eight times their size in memory", times=1)
def test_spelled_numbers(bench: Bench) -> None:
    bench.put(spelled_numbers())
    with pytest.raises(PipelineError, match="spells more than"):
        load_model(bench.model)


@row("A file of that name that is a folder, a pipe, a device, or not there", times=4)
def test_what_is_no_file(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    place = bench.model
    assert "does not exist" in error_of("inspect", place, bench, capsys)
    place.mkdir()
    assert "is a folder" in error_of("inspect", place, bench, capsys)
    place.rmdir()
    os.mkfifo(place)
    assert "is no file" in error_of("inspect", place, bench, capsys)
    assert "is no file" in error_of("inspect", Path("/dev/zero"), bench, capsys)


@row(
    f"One bit flipped anywhere in a model of 4 kB: {FLIPS} seeded places",
    "one of our own errors, or a model that ONNX Runtime loads or refuses",
    times=FLIPS,
)
def test_flipped_bits(bench: Bench) -> None:
    whole = small_classifier().SerializeToString()
    random = np.random.default_rng(20260113)
    for place in random.choice(len(whole) * 8, FLIPS, replace=False):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        _nothing_but_our_errors(bench, bytes(content))


@row(
    f"The file cut at {CUTS} seeded places",
    "one of our own errors, or a model that ONNX Runtime loads or refuses",
    times=CUTS,
)
def test_cuts(bench: Bench) -> None:
    whole = small_classifier().SerializeToString()
    random = np.random.default_rng(20260114)
    for place in random.choice(len(whole), CUTS, replace=False):
        _nothing_but_our_errors(bench, whole[:place])


@row(
    "Runs of random bytes over the middle of a model: 120 seeded places",
    "one of our own errors, or a model that ONNX Runtime loads or refuses",
    times=120,
)
def test_overwritten_runs(bench: Bench) -> None:
    whole = small_classifier().SerializeToString()
    random = np.random.default_rng(20260115)
    for place in random.choice(len(whole) - 64, 120, replace=False):
        content = bytearray(whole)
        content[place : place + 16] = random.bytes(16)
        _nothing_but_our_errors(bench, bytes(content))


def _nothing_but_our_errors(bench: Bench, content: bytes) -> None:
    path = bench.put(content)
    try:
        model = load_model(path)
        read_signature(model, path)
        make_session(path, threads=1)
    except PipelineError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def weight_of(shape: list[int], kind: int = TensorProto.FLOAT, raw: bytes = bytes(64)) -> TensorProto:
    return TensorProto(name="big", dims=shape, data_type=kind, raw_data=raw)


@pytest.mark.parametrize(
    ("tensor", "phrase"),
    [
        pytest.param(
            weight_of([1 << 20, 1 << 20]),
            "'big' claims 4398046511104 bytes",
            marks=row("A weight that claims terabytes in 64 bytes"),
        ),
        pytest.param(
            weight_of([1 << 62, 1 << 62, 4]),
            "'big' claims",
            marks=row("A weight whose shape overflows 64 bits"),
        ),
        pytest.param(
            weight_of([1 << 32, 1 << 32, 0]),
            "but holds 64",
            marks=row("A weight whose shape overflows 64 bits"),
        ),
        pytest.param(
            weight_of([4, 8]), "claims 128 bytes", marks=row("A weight that holds less than its shape")
        ),
        pytest.param(weight_of([4]), "claims 16 bytes", marks=row("A weight that holds more than its shape")),
        pytest.param(
            weight_of([-1, 16]), "with a negative extent", marks=row("A weight of a negative shape")
        ),
        pytest.param(weight_of([1] * 40), "has 40 axes", marks=row("A weight of forty axes")),
        pytest.param(
            weight_of([16], 99), "element type 99", marks=row("A weight of an unknown element type")
        ),
        pytest.param(
            weight_of([16], TensorProto.UNDEFINED),
            "element type 0",
            marks=row("A weight of an unknown element type"),
        ),
        pytest.param(
            TensorProto(name="big", dims=[4], data_type=TensorProto.FLOAT, int64_data=[1, 2, 3, 4]),
            "claims 4 numbers",
            marks=row("A weight whose numbers are in another type's field"),
        ),
    ],
)
def test_weights_that_lie(
    tensor: TensorProto, phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_classifier()
    model.graph.initializer.append(tensor)
    bench.put(model)
    refused(bench, capsys, phrase)


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


@pytest.mark.parametrize(
    ("made", "phrase"),
    [
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
    working = tuple(name for name in WORKING if name != "package")
    refused(bench, capsys, node.op_type, commands=working, codes=(2, 3))
    for name in LOOKING:
        code = main(COMMANDS[name](bench.model, bench))
        out, err = capsys.readouterr()
        assert code in (0, 1, 2) and "internal error" not in err
        assert node.op_type in out + err or name == "prepare model"


def test_the_bytes_of_the_bombs_are_what_they_say() -> None:
    """So that the tests above test what they mean: each is a message that protobuf would read."""
    small = varint(8) + varint(8) + field(7, field(1, b"") * 3)
    assert len(onnx.ModelProto.FromString(small).graph.node) == 3
    tensor = field(7, bytes(5))
    spelled = onnx.ModelProto.FromString(field(7, field(5, tensor)))
    assert list(spelled.graph.initializer[0].int64_data) == [0] * 5
    assert struct.calcsize("q") == 8
