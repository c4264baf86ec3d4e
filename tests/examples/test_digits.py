"""The committed network: a sound file that is as accurate as it says, on digits it never saw."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.digits import load_strokes, render_digit, split_digits
from quantize.session import make_session

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
MODELS = sorted(EXAMPLE.glob("*.onnx"))


def load(path: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    model = onnx.load(path)
    return model, {p.key.removeprefix("digits."): p.value for p in model.metadata_props}


def pictures(indices: np.ndarray) -> np.ndarray:
    strokes, _ = load_strokes()
    rendered = np.stack([render_digit(strokes[index], int(index)) for index in indices])
    scaled = (rendered.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    labels = load_strokes()[1]
    indices = split_digits(labels)[1]
    return pictures(indices), labels[indices]


def test_the_network_is_there() -> None:
    assert EXAMPLE / "digits-mobilenetv2.onnx" in MODELS


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_file_is_small_and_valid(path: Path) -> None:
    model, _ = load(path)
    onnx.checker.check_model(model, full_check=True)
    assert path.stat().st_size < 2_000_000
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 12)]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_signature_is_that_of_the_zoo(path: Path) -> None:
    graph = load(path)[0].graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {"input": ["N", 3, 64, 64], "output": ["N", 10]}


def test_mobilenetv2_has_the_operators_of_the_paper() -> None:
    graph = load(EXAMPLE / "digits-mobilenetv2.onnx")[0].graph
    counts = Counter(node.op_type for node in graph.node)
    # 17 blocks, the first without an expansion, with the stem and the last 1x1: 52 convolutions, of which
    # the 17 projections are linear; 10 blocks keep their shape and add their input.
    assert (counts["Conv"], counts["Clip"], counts["Add"], counts["Gemm"]) == (52, 35, 10, 1)
    assert counts["BatchNormalization"] == 0
    groups = [a.i for n in graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "group"]
    assert sum(group > 1 for group in groups) == 17


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_accuracy_on_held_out_digits_is_the_one_stated(
    path: Path, held_out: tuple[np.ndarray, np.ndarray]
) -> None:
    model, facts = load(path)
    images, labels = held_out
    session = make_session(model, threads=1)
    logits = np.concatenate([session.run(None, {"input": part})[0] for part in np.array_split(images, 16)])
    correct = int((logits.argmax(axis=1) == labels).sum())
    assert int(facts["held_out_digits"]) == labels.size == 797
    # Another release of ONNX Runtime, or another CPU, may round a close call the other way.
    assert abs(correct - int(facts["held_out_correct"])) <= 1
    assert float(facts["held_out_accuracy"]) == pytest.approx(int(facts["held_out_correct"]) / 797, abs=1e-6)
    assert 0.95 < correct / labels.size < 1


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_an_image_has_the_same_answer_alone_and_in_a_batch(
    path: Path, held_out: tuple[np.ndarray, np.ndarray]
) -> None:
    session = make_session(path, threads=1)
    images = held_out[0][:5]
    together = session.run(None, {"input": images})[0]
    alone = np.concatenate([session.run(None, {"input": images[i : i + 1]})[0] for i in range(5)])
    # Sums of up to 1,280 float32 products, in another order: 1e-4 of logits around 10 is far above rounding.
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


def test_the_readme_states_the_figures_of_the_files() -> None:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for path in MODELS:
        _, facts = load(path)
        assert path.name in text
        assert f"{facts['held_out_correct']} of {facts['held_out_digits']}" in text
        assert re.search(rf"{float(facts['held_out_accuracy']):.2%}".replace("%", r"\s?%"), text)
