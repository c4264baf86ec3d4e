"""Models with branches, and with names that mean something to somebody: they go through everything."""

from __future__ import annotations

import html
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantize.cli import main
from quantize.session import make_session, outputs
from tests.quantize.net import Net
from tests.robustness.model_commands import (
    CLASSIFYING,
    COMMANDS,
    Bench,
    bench,
    materials,
    pixels,
    refused,
    small_classifier,
    tuned,
)

__all__ = ["bench", "materials"]  # fixtures


def row(done: str, does: str, *, times: int = 1) -> pytest.MarkDecorator:
    return pytest.mark.robustness("Models", done, does, times=times)


def branching() -> onnx.ModelProto:
    """If the image is bright, one more convolution."""
    net = Net(13)
    x = net.relu(net.conv("image", 3, 6))
    flag = net.node("Greater", net.node("ReduceMax", "image", keepdims=0), net.constant(0.5))
    inner = Net(13, seed=4)
    value = helper.make_tensor_value_info("branched", TensorProto.FLOAT, None)
    inner.conv(x, 6, 6, output="branched")
    bright = helper.make_graph(inner.nodes, "bright", [], [value], inner.weights)
    for node in bright.node:
        for position, name in enumerate(node.input):
            node.input[position] = name if name == x else f"inner_{name}"
    for tensor in bright.initializer:
        tensor.name = f"inner_{tensor.name}"
    dark = helper.make_graph(
        [helper.make_node("Identity", [x], ["kept"])],
        "dark",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, None)],
    )
    y = net.node("If", flag, then_branch=bright, else_branch=dark)
    net.head(net.conv(y, 6, 6), 6)
    return net.model()


@row(
    "A model with an If",
    "the operators around the branches become int8, those inside stay float, and it runs",
    times=1,
)
def test_branches(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put(branching())
    tuned(bench, capsys, "--no_html")
    expected = outputs(make_session(bench.model, threads=1), pixels())
    written = list(bench.out.glob("*.onnx"))
    assert len(written) == 2
    for path in written:
        assert "If" in [node.op_type for node in onnx.load(path).graph.node]
        found = outputs(make_session(path, threads=1), pixels())
        assert np.max(np.abs(found - expected)) < 0.1 * np.max(np.abs(expected))


NAMES = (
    "../../../{{ 7 * 7 }}/escape",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "a\nb\r\nc",
    "\x1b]0;owned\x07\u202e",
    "| pipe | `tick` *star*",
    "'\"; DROP TABLE operators; --",
    "C:\\windows\\..\\x",
)


def oddly_named() -> onnx.ModelProto:
    """Every tensor and operator but the input has a name that means something to somebody."""
    model = small_classifier()
    graph = model.graph
    taken: dict[str, str] = {"image": "image"}

    def renamed(name: str) -> str:
        if name not in taken:
            taken[name] = f"{NAMES[len(taken) % len(NAMES)]}{len(taken)}"
        return taken[name]

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for position, node in enumerate(graph.node):
        node.name = f"{NAMES[position % len(NAMES)]} node {position}"
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    graph.output[0].name = renamed(graph.output[0].name)
    graph.name = NAMES[2]
    model.producer_name, model.doc_string = NAMES[2], NAMES[0]
    model.metadata_props.add(key=NAMES[2], value=NAMES[5])
    return model


@row(
    "Names of tensors and operators with path separators, markup, templates, control characters",
    "the whole run works; nothing is written outside the output folder, and reports and terminal escape them",
    times=1,
)  # fmt: skip
def test_odd_names_through_everything(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put(oddly_named())
    before = everything_below(bench)
    report = tuned(bench, capsys, "--refine=none")
    out, err = capsys.readouterr()
    assert everything_below(bench) == before
    assert all(path.is_file() and path.parent == bench.out for path in bench.out.iterdir())
    assert out.replace("\n", "").isprintable()
    assert err.replace("\n", "").isprintable()
    assert report["models"]["fp32"]["path"] == str(bench.model)
    (page,) = (path.read_text(encoding="utf-8") for path in bench.out.glob("*.html"))
    assert "<script>alert" not in page and html.escape("<script>alert(1)</script>") in page
    assert "{{ 7 * 7 }}" in page
    (prose,) = (path.read_text(encoding="utf-8") for path in bench.out.glob("*.md"))
    # Between backticks Markdown shows text letter by letter; a span ends with as many as it began with.
    assert "<script>" not in re.sub(r"(?s)(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
    # A no-break space keeps the percent sign at its number.
    assert page.replace("\n", "").replace("\u00a0", " ").isprintable()
    assert prose.replace("\n", "").replace("\u00a0", " ").isprintable()
    (made,) = bench.out.glob("*-int8.onnx")
    for words in (
        ["inspect", str(made), "--operators"],
        ["inspect", str(made), "--layers"],
        ["export", "ort", str(made), f"--output={bench.out / 'ort'}"],
        ["export", "uint8", str(made), f"--output={bench.out / 'uint8'}", f"--config={bench.config}"],
        ["export", "triton", str(made), f"--output={bench.out / 'triton'}"],
        ["sensitivity", str(bench.model), f"--config={bench.config}", f"--output={bench.out / 's.json'}"],
    ):
        assert main(words) == 0, (words, capsys.readouterr().err)
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "").isprintable(), words
    assert everything_below(bench) == before


@row(
    "A model file whose name has markup, quotes, shell characters, a line break, an escape sequence",
    "the run works, its files are in the output folder, and reports and terminal escape the name",
)
def test_odd_file_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    odd = bench.folder / "<b>$(id)\n;'\"\x1b]0;owned\x07 é.onnx"
    odd.write_bytes(small_classifier().SerializeToString())
    before = everything_below(bench)
    for name in ("tune", "evaluate", "benchmark", "predict", "inspect"):
        assert main(COMMANDS[name](odd, bench)) == 0, (name, capsys.readouterr().err)
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "").isprintable(), name
    assert everything_below(bench) == before
    assert len(list(bench.out.glob("*.onnx"))) == 2
    (page,) = (path.read_text(encoding="utf-8") for path in bench.out.glob("*.html"))
    assert "<b>$(id)" not in page and "&lt;b&gt;$(id)" in page


def everything_below(bench: Bench) -> set[str]:
    """All that is beside the output folder."""
    root = bench.out.parent
    return {str(path.relative_to(root)) for path in root.rglob("*") if bench.out not in (path, *path.parents)}


@row("Operators without names", "each gets a name of its own, and the run works", times=1)
def test_operators_without_names(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_classifier()
    for node in model.graph.node:
        node.name = ""
    bench.put(model)
    assert tuned(bench, capsys, "--no_html")["models"]["int8"]


@row("Two operators of one name", "commands that run it refuse it by the name", times=len(CLASSIFYING))
def test_operators_of_one_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_classifier()
    for node in model.graph.node[2:4]:
        node.name = "same"
    bench.put(model)
    refused(bench, capsys, "two nodes with same node name (same)", commands=CLASSIFYING, codes=(2, 3))


@row("The same tensor described twice", "the run works", times=1)
def test_values_of_one_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.shape_inference.infer_shapes(small_classifier())
    model.graph.value_info.append(model.graph.value_info[0])
    bench.put(model)
    assert main(COMMANDS["evaluate"](bench.model, bench)) == 0, capsys.readouterr().err
