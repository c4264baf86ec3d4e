"""NaN and infinity are traced to the operator that first makes them, and to the image, wherever they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from quantize.cli import main
from quantize.data import load_data
from quantize.errors import EngineError, InputError
from quantize.evaluate import evaluate
from quantize.graph import GraphIndex
from quantize.judging import CalibrationDivergence
from quantize.measure import run_evaluate
from quantize.model import read_signature
from quantize.nonfinite import Culprit, explained, find_culprit
from quantize.pipeline import tune
from quantize.prepare import prepare
from quantize.qdq import write_qdq
from quantize.ranges import collect_extremes
from quantize.refine.judge import Judge, scores
from quantize.scales import ActivationScale
from quantize.session import make_session
from tests.quantize.image_samples import CLASSES, EXTENT, TRANSFORM, configured, folders, write_folders
from tests.quantize.models import zoo_case
from tests.quantize.net import Net, images
from tests.quantize.refine.conftest import network_of

CALM = images(1, shape=(3, EXTENT, EXTENT))


def dividing(*, classes: int = CLASSES) -> onnx.ModelProto:
    """A classifier that divides by the mean of a Relu: a black picture makes 0 / 0 of it."""
    net = Net(13)
    x = net.relu(net.conv("image", 3, 6, bias=False))
    x = net.node("Div", x, net.node("GlobalAveragePool", x), output="ratio")
    net.head(net.relu(net.conv(x, 6, 6)), 6, classes=classes)
    return net.model(shape=["n", 3, EXTENT, EXTENT], classes=classes)


BLACK = np.zeros((1, 3, EXTENT, EXTENT), np.float32)


def with_constant(model: onnx.ModelProto, name: str, value: float) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.reshape(-1)[0] = value
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return changed


def write_config(path: Path, learnt: Path, judged: Path) -> None:
    content = {
        "quantization": {
            "calibration": {
                "sampling_size": 10,
                "dataloader": {"dataset": folders(learnt), "transform": TRANSFORM},
            }
        },
        "evaluation": {"accuracy": {"dataloader": {"dataset": folders(judged), "transform": TRANSFORM}}},
        "refine": {"effort": "none"},
    }
    path.write_text(json.dumps(content))


def division(model: onnx.ModelProto) -> str:
    (node,) = (node for node in model.graph.node if node.op_type == "Div")
    return node.name


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, of which the fifth is black, and the model that cannot take it."""
    root = write_folders(tmp_path_factory.mktemp("noise"), 60, extent=EXTENT)
    onnx.save(dividing(), root / "m.onnx")
    return root


def blackened(root: Path, name: str) -> Path:
    Image.new("RGB", (EXTENT, EXTENT)).save(root / name)
    return root / name


def test_the_first_operator_is_found() -> None:
    model = dividing()
    assert find_culprit(model, CALM) is None
    assert find_culprit(model, BLACK) == Culprit(division(model), "Div", "ratio", "NaN")
    everything = [name for node in model.graph.node for name in node.output]
    found = find_culprit(model, BLACK, everything)
    assert found is not None and found.operator == division(model)


@pytest.mark.robustness(
    "Numbers",
    "A weight, bias or scale of a model is NaN or infinite",
    "the operator and the constant are named in one line, before any image is read",
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_constants_that_are_not_finite_are_named(value: float) -> None:
    model = dividing()
    conv = model.graph.node[0]
    broken = with_constant(model, conv.input[1], value)
    with pytest.raises(InputError) as caught:
        prepare(broken, read_signature(broken, Path("m.onnx")))
    text = str(caught.value)
    assert f"operator {conv.name!r} (Conv) is the first to make" in text
    assert f"its constant {conv.input[1]!r} holds" in text and "\n" not in text


@pytest.mark.robustness(
    "Numbers",
    "Infinity that a later operator turns into finite numbers (a mask before a Softmax)",
    "it is not taken for the fault; the operator that is at fault later is named",
)
def test_harmless_infinities_are_passed_by() -> None:
    net = Net(13)
    mask = net.constant(np.array([-np.inf, 0, 0]).reshape(1, 3, 1, 1))
    x = net.node("Add", net.node("GlobalAveragePool", "image"), mask)
    x = net.node("Softmax", x, axis=1)
    y = net.node("Log", net.node("Sub", x, x))
    net.node("Flatten", net.node("Sub", y, y), output="scores")
    model = net.model(classes=3)
    found = find_culprit(model, images(1))
    assert found is not None and (found.op_type, found.what) == ("Log", "infinity")


@pytest.mark.robustness(
    "Numbers",
    "One calibration image makes an operator divide zero by zero",
    "measuring the ranges stops with the operator, what it made, and the image",
)
def test_calibration_names_operator_and_image() -> None:
    model = dividing()
    batches = [(CALM, None), (np.concatenate([CALM, BLACK]), None)]
    words = rf"operator '{division(model)}' \(Div\) is the first to make NaN, for image number 2;"
    with pytest.raises(InputError, match=words):
        collect_extremes(model, ["image"], batches, threads=2)  # the output is looked at in any case
    with pytest.raises(InputError, match=r"Div.*image number 2"):
        collect_extremes(model, ["ratio"], batches, threads=1)


@pytest.mark.robustness(
    "Numbers",
    "The transforms make NaN or infinity of an image",
    "the message says that it is the input and not an operator, and names the image",
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite(value: float) -> None:
    image = CALM.copy()
    image[0, 1, 2, 3] = value
    with pytest.raises(InputError, match=r"input 'image' holds .* behind the transforms, for image number 0"):
        collect_extremes(dividing(), ["image"], [(image, None)], threads=1)


@pytest.mark.robustness(
    "Numbers",
    "One evaluation image makes NaN in the fp32 baseline",
    "the run stops before tuning with the operator and the file; nothing is written",
)
def test_the_baseline_names_operator_and_file(paths: Path, tmp_path: Path) -> None:
    elsewhere = write_folders(tmp_path / "judged", 24, seed=8, extent=EXTENT)
    black = blackened(elsewhere, "1/005.png")
    config = configured(folders(paths), folders(elsewhere))
    with pytest.raises(InputError) as caught:
        tune(paths / "m.onnx", config, tmp_path / "out")
    text = str(caught.value)
    assert f"operator {division(dividing())!r} (Div) is the first to make NaN, for image {black};" in text
    assert text.startswith("fp32: ") and "\n" not in text
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.robustness(
    "Numbers",
    "One calibration image makes NaN, in a whole run",
    "the command line shows one line with operator and file, and exits with 2",
)
def test_calibration_on_the_command_line(
    paths: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = write_folders(tmp_path / "learnt", 10, seed=8, extent=EXTENT)
    black = blackened(learnt, "2/006.png")
    write_config(tmp_path / "c.yaml", learnt, paths)
    command = ["tune", f"--input_model={paths / 'm.onnx'}", f"--config={tmp_path / 'c.yaml'}"]
    assert main([*command, f"--output_model={tmp_path / 'out'}", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert f"(Div) is the first to make NaN, for image {black};" in err


@pytest.mark.robustness(
    "Numbers",
    "A selection image, which only the refinement sees, makes NaN in the fp32 model",
    "the message names operator and image",
)
def test_selection_images_are_named() -> None:
    case = zoo_case("inverted_residual")
    broken = with_constant(case.prepared, _weights_of(case.prepared), np.nan)
    with pytest.raises(InputError, match=r"fp32 model: operator .* is the first to make NaN.*image sel-1"):
        scores(
            broken,
            list(case.images[:2, None]),
            threads=1,
            ours=False,
            naming=lambda number: f"image sel-{number + 1}",
        )
    assert Judge(network_of(case), [case.images[:1]], threads=1).image_count == 1


def _weights_of(model: onnx.ModelProto) -> str:
    return next(str(node.input[1]) for node in model.graph.node if node.op_type == "Conv")


def int8_with_nan(case: Any) -> tuple[onnx.ModelProto, str]:
    """A QDQ model the weight scale of whose last operator is NaN; those before it end in integers."""
    qdq = case.qdq()
    index = GraphIndex(qdq.graph)
    (last,) = (node for node in qdq.graph.node if node.op_type == "Gemm")
    scale = index.producer[last.input[1]].input[1]
    return with_constant(qdq, scale, np.nan), scale


@pytest.mark.robustness(
    "Numbers",
    "An int8 model that was made here puts out NaN",
    "evaluation, ranking and refinement name the operator and say that it is the pipeline's fault",
)
def test_int8_models_name_the_operator() -> None:
    case = zoo_case("inverted_residual")
    broken, scale = int8_with_nan(case)
    error = explained(broken, case.images[:1], model="int8 model", image_name="image x", ours=True)
    assert isinstance(error, EngineError)
    assert f"its constant {scale!r} holds" in str(error) and "fault of the pipeline" in str(error)
    labels = np.zeros(len(case.images), np.int64)
    sessions = {"QDQ": make_session(broken, threads=1)}
    with pytest.raises(EngineError, match=r"QDQ: .*DequantizeLinear.* is the first to make NaN"):
        evaluate(sessions, [(case.images, labels)], sources={"QDQ": broken}, made_here=("QDQ",))
    with pytest.raises(InputError, match=r"QDQ: .* is the first to make NaN"):
        evaluate(sessions, [(case.images, labels)], sources={"QDQ": broken})
    with pytest.raises(EngineError, match="NaN or infinite logits for 8 of 8"):
        evaluate(sessions, [(case.images, labels)])
    with pytest.raises(EngineError, match=r"int8 model: .*image number 0; this is a fault of the pipeline"):
        scores(broken, [case.images[:1]], threads=1)


@pytest.mark.robustness(
    "Numbers",
    "A candidate of the search puts out NaN on calibration images",
    "its operator and the file of the image are named",
)
def test_the_ranking_of_candidates_names_operator_and_file(paths: Path) -> None:
    model = dividing()
    signature = read_signature(model, Path("m.onnx"))
    data = load_data(configured(folders(paths), folders(paths)), signature, progress=False)
    divergence = CalibrationDivergence(model, data.calibration, threads=1, probabilities=False)
    assert divergence(model) == 0.0
    conv = model.graph.node[0]
    broken = with_constant(model, conv.input[1], np.nan)
    with pytest.raises(EngineError) as caught:
        divergence(broken)
    assert f"operator {conv.name!r} (Conv) is the first to make NaN" in str(caught.value)
    assert f"for image {data.calibration.images.path(0)};" in str(caught.value)


@pytest.mark.robustness(
    "Numbers",
    "`evaluate` and `predict` meet an image of which a given model makes NaN",
    "one line names model, operator and file; exit code 2",
)
def test_evaluate_and_predict(paths: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = write_folders(tmp_path / "judged", 24, seed=8, extent=EXTENT)
    black = blackened(judged, "1/005.png")
    config = configured(folders(paths), folders(judged))
    with pytest.raises(InputError, match=f"m.onnx: operator .*Div.* for image {black}"):
        run_evaluate(config, input_model=paths / "m.onnx", verbosity="quiet")
    write_config(tmp_path / "c.yaml", paths, judged)
    calm = str(judged / "0/000.png")
    command = ["predict", str(paths / "m.onnx"), calm, str(black), f"--config={tmp_path / 'c.yaml'}"]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert f"(Div) is the first to make NaN, for image {black};" in err and "Traceback" not in err


@pytest.mark.robustness(
    "Numbers",
    "A scale that a pass made is NaN or infinite",
    "the writer refuses to put it into a model, naming the constant: integers would hide it",
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_model_is_written_with_a_scale_that_is_not_finite(value: float) -> None:
    case = zoo_case("inverted_residual")
    plan = case.plan()
    tensor = next(iter(plan.scales))
    scales = {**plan.scales, tensor: ActivationScale(value, 0)}
    with pytest.raises(EngineError, match="is NaN or infinite; this is a fault of the pipeline"):
        write_qdq(case.prepared, case.inventory, replace(plan, scales=scales), case.target)


@pytest.mark.robustness(
    "Numbers",
    "All numbers are finite",
    "no operator is looked for: the search runs no session at all",
)
def test_nothing_is_searched_when_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantize.nonfinite.make_session", None)
    collect_extremes(dividing(), ["ratio"], [(CALM, None)], threads=1)
    session = make_session(dividing(), threads=1)
    evaluate({"m": session}, [(CALM, np.zeros(1, np.int64))], sources={"m": dividing()})
