"""The committed networks: sound files that are as accurate as they say, on digits they never saw."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from calibration.digits import load_strokes, render_digit, split_digits
from quantize.session import make_session, outputs

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
FIXTURES = ROOT / "tests" / "fixtures" / "networks"
Digits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]  # pictures and labels


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand."""

    path: Path
    opset: int
    input_shape: Sequence[str | int]
    output_shape: Sequence[str | int]
    size_limit_bytes: int = 700_000


NETWORKS = (
    Expected(EXAMPLE / "digits-mobilenetv2.onnx", 12, ["N", 3, 64, 64], ["N", 10], 2_000_000),
    Expected(FIXTURES / "digits-mobilenetv3.onnx", 17, ["N", 3, 64, 64], ["N", 10]),
    Expected(FIXTURES / "digits-resnet.onnx", 13, ["N", 3, 64, 64], ["N", 10]),
    Expected(FIXTURES / "digits-squeezenet.onnx", 11, [1, 3, 64, 64], [1, 10, 1, 1]),
)
every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.path.stem)


def load(path: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    model = onnx.load(path)
    return model, {p.key.removeprefix("digits."): p.value for p in model.metadata_props}


def pictures(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    strokes, _ = load_strokes()
    rendered = np.stack([render_digit(strokes[index], int(index)) for index in indices])
    scaled = (rendered.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def held_out() -> Digits:
    labels = load_strokes()[1]
    indices = split_digits(labels)[1]
    return pictures(indices), labels[indices]


def test_every_file_is_known_here() -> None:
    assert {*EXAMPLE.glob("*.onnx"), *FIXTURES.glob("*.onnx")} == {network.path for network in NETWORKS}


@every_network
def test_the_file_is_small_and_valid(network: Expected) -> None:
    model, facts = load(network.path)
    onnx.checker.check_model(model, full_check=True)
    assert network.path.stat().st_size < network.size_limit_bytes
    assert [(o.domain, o.version) for o in model.opset_import] == [("", network.opset)]
    assert network.path.name == f"digits-{facts['network']}.onnx"


@every_network
def test_the_signature_is_the_stated_one(network: Expected) -> None:
    graph = load(network.path)[0].graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {"input": network.input_shape, "output": network.output_shape}


def operators(path: Path) -> tuple[Counter[str], onnx.GraphProto]:
    graph = load(path)[0].graph
    return Counter(node.op_type for node in graph.node), graph


def convolutions(graph: onnx.GraphProto) -> list[tuple[int, int]]:
    """Groups and kernel of every convolution."""
    found = [
        {a.name: a for a in node.attribute if a.name in ("group", "kernel_shape")}
        for node in graph.node
        if node.op_type == "Conv"
    ]
    return [(attributes["group"].i, attributes["kernel_shape"].ints[0]) for attributes in found]


def test_mobilenetv2_has_the_operators_of_the_paper() -> None:
    counts, graph = operators(EXAMPLE / "digits-mobilenetv2.onnx")
    # 17 blocks, the first without an expansion, with the stem and the last 1x1: 52 convolutions, of which
    # the 17 projections are linear; 10 blocks keep their shape and add their input.
    assert (counts["Conv"], counts["Clip"], counts["Add"], counts["Gemm"]) == (52, 35, 10, 1)
    assert counts["BatchNormalization"] == 0
    assert sum(group > 1 for group, _ in convolutions(graph)) == 17


def test_mobilenetv3_has_one_node_per_hard_swish_and_sigmoid_and_both_depthwise_kernels() -> None:
    counts, graph = operators(FIXTURES / "digits-mobilenetv3.onnx")
    # Stem, five blocks of two, the last 1x1 and the first of two layers behind the pooling.
    assert counts["HardSwish"] == 1 + 5 * 2 + 1 + 1
    # Six of eight blocks are excited: a mean, a sigmoid and a product each.
    assert (counts["HardSigmoid"], counts["Mul"], counts["GlobalAveragePool"]) == (6, 6, 6 + 1)
    # Four of eight blocks keep their shape and add their input.
    assert (counts["Add"], counts["Gemm"]) == (4, 2)
    assert Counter(kernel for group, kernel in convolutions(graph) if group > 1) == {3: 3, 5: 5}


def test_resnet_keeps_its_batch_normalization_and_has_shortcuts_with_and_without_weights() -> None:
    counts, _ = operators(FIXTURES / "digits-resnet.onnx")
    # Stem, six blocks of two, and the shortcuts of the second and the third stage.
    assert counts["Conv"] == counts["BatchNormalization"] == 1 + 6 * 2 + 2
    assert (counts["Relu"], counts["Add"], counts["MaxPool"], counts["MatMul"]) == (1 + 6 * 2, 6, 1, 1)


def test_squeezenet_ends_in_a_convolution() -> None:
    counts, graph = operators(FIXTURES / "digits-squeezenet.onnx")
    # Stem, seven modules of three and the classifier, each with its own ReLU.
    assert counts == {"Conv": 23, "Relu": 23, "Concat": 7, "MaxPool": 3, "GlobalAveragePool": 1}
    assert [node.op_type for node in graph.node][-3:] == ["Conv", "Relu", "GlobalAveragePool"]
    # Rounding 32, 16 and 8 up to 16, 8 and 4 makes the last windows of each pooling reach over the edge.
    pools = [node for node in graph.node if node.op_type == "MaxPool"]
    rounding = [a.i for node in pools for a in node.attribute if a.name == "ceil_mode"]
    assert rounding == [1, 1, 1]


@every_network
def test_the_accuracy_on_held_out_digits_is_the_one_stated(network: Expected, held_out: Digits) -> None:
    model, facts = load(network.path)
    images, labels = held_out
    session = make_session(model, threads=1)
    logits = np.concatenate([outputs(session, part) for part in np.array_split(images, 16)])
    correct = int((logits.argmax(axis=1) == labels).sum())
    assert int(facts["held_out_digits"]) == labels.size == 797
    # Another release of ONNX Runtime, or another CPU, may round a close call the other way.
    assert abs(correct - int(facts["held_out_correct"])) <= 1
    assert float(facts["held_out_accuracy"]) == pytest.approx(int(facts["held_out_correct"]) / 797, abs=1e-6)
    assert 0.95 < correct / labels.size < 1


@pytest.mark.parametrize(
    "network", [n for n in NETWORKS if n.input_shape[0] == "N"], ids=lambda network: network.path.stem
)
def test_an_image_has_the_same_answer_alone_and_in_a_batch(network: Expected, held_out: Digits) -> None:
    session = make_session(network.path, threads=1)
    images = held_out[0][:5]
    together = session.run(None, {"input": images})[0]
    alone = np.concatenate([session.run(None, {"input": images[i : i + 1]})[0] for i in range(5)])
    # Sums of up to 1,280 float32 products, in another order: 1e-4 of logits around 10 is far above rounding.
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


@every_network
def test_the_readme_states_the_figures_of_the_file(network: Expected) -> None:
    text = (network.path.parent / "README.md").read_text(encoding="utf-8")
    _, facts = load(network.path)
    stated = re.escape(f"{facts['held_out_correct']} of {facts['held_out_digits']}")
    accuracy = re.escape(f"{float(facts['held_out_accuracy']):.2%}").replace("%", r"\s?%")
    size = f"{network.path.stat().st_size:,}"
    [line] = [line for line in text.splitlines() if line.startswith(f"| `{network.path.name}` |")]
    assert size in line
    # The bundled network's accuracy has a paragraph, the others' stand in their line of the table.
    place = text if network.path.parent == EXAMPLE else line
    assert re.search(stated, place) and re.search(accuracy, place)
