"""The main job on every kind of classifier, each small, made here, and right about its own images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

import quantize
from quantize.diagnose.options import ReportOptions
from quantize.errors import InputError
from quantize.model import read_signature
from tests.quantize.net import Net

EXTENT = 16
CHANNELS = 24
KINDS = 10
IMAGES = 240
CALIBRATION = 60

# The least score by which the best class of an image is ahead of the second; far more than int8 moves
# a score, so that accuracy tells of mistakes and not of luck.
MARGIN = 0.3


@dataclass(frozen=True)
class Case:
    """One kind of classifier.

    Attributes:
        nhwc: whether it takes images as they are, channels last.
        classes: how many scores it gives.
        batch: extent or name of the first axis.
        opset: of the operators.
        extents: declared extents of an image; None takes the usual ones.
        softmax: whether probabilities come out.
        batch_norm: whether a BatchNormalization follows the first Conv.
        sized: whether it works for images of EXTENT only, which the transforms say and its input does not.
        background: whether class 0 is none of the images', as in TensorFlow's 1001 classes.
    """

    nhwc: bool = False
    classes: int = KINDS
    batch: int | str = "n"
    opset: int = 13
    extents: tuple[int | str, ...] | None = None
    softmax: bool = False
    batch_norm: bool = False
    sized: bool = False
    background: bool = False

    @property
    def shape(self) -> list[int | str]:
        usual = (EXTENT, EXTENT, 3) if self.nhwc else (3, EXTENT, EXTENT)
        return [self.batch, *(self.extents or usual)]


CASES = {
    "plain": Case(),
    "channels last": Case(nhwc=True),
    "channels last, nothing declared": Case(nhwc=True, extents=("a", "b", "c")),
    "channels first, nothing declared": Case(extents=("a", "b", "c")),
    "size in the transforms": Case(extents=(3, "b", "c"), sized=True),
    "batches of four": Case(batch=4),
    "softmax": Case(softmax=True),
    "1001 classes": Case(classes=1001, background=True),
    "opset 7, BatchNormalization, weights are inputs": Case(opset=7, batch_norm=True, batch=1),
    "two classes": Case(classes=2),
    "newest opset": Case(opset=22, batch_norm=True),
}


def features(case: Case) -> Net:
    """Everything but the classifier; "features" is [N, CHANNELS]."""
    net = Net(case.opset, seed=5)
    x = net.node("Transpose", "image", perm=[0, 3, 1, 2]) if case.nhwc else "image"
    x = net.conv(x, 3, CHANNELS, strides=[2, 2])
    if case.batch_norm:
        x = net.batch_norm(x, CHANNELS)
    x = net.relu(net.conv(net.clip(x), CHANNELS, CHANNELS))
    side = EXTENT // 2
    pooled = (
        net.node("AveragePool", x, kernel_shape=[side, side])
        if case.sized
        else net.node("GlobalAveragePool", x)
    )
    net.node("Flatten", pooled, output="features", axis=1)
    return net


def finished(net: Net, case: Case, output: str, width: int) -> onnx.ModelProto:
    model = net.model(shape=case.shape, output_shape=[case.batch, width])
    model.graph.output[0].name = output
    return model


def scores(model: onnx.ModelProto, case: Case, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size = case.batch if isinstance(case.batch, int) else len(images)
    batches = (images[start : start + size] for start in range(0, len(images), size))
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in batches])


def classifier(case: Case, images: npt.NDArray[np.float32], wanted: npt.NDArray[np.int64]) -> onnx.ModelProto:
    """A network whose last layer is fitted to the wanted classes by least squares."""
    net = features(case)
    found = scores(finished(net, case, "features", CHANNELS), case, images).astype(np.float64)
    centre = found.mean(axis=0)
    # Scores of a softmax are spread, so that the best class comes near 1 as in a trained network.
    targets = np.eye(case.classes)[wanted] * (10.0 if case.softmax else 1.0)
    ridge = 1e-4 * np.eye(CHANNELS) * np.square(found - centre).sum(axis=0).mean()
    spread = (found - centre).T @ (found - centre) + ridge
    weights = np.linalg.solve(spread, (found - centre).T @ (targets - targets.mean(axis=0)))
    bias = targets.mean(axis=0) - centre @ weights
    inputs = ["features", net.constant(weights), net.constant(bias)]
    output = net.node("Gemm", *inputs)
    if case.softmax:
        output = net.node("Softmax", output, axis=1)
    return finished(net, case, output, case.classes)


def draw(count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images [count, EXTENT, EXTENT, 3] of KINDS patterns with noise, and which pattern each is."""
    random = np.random.RandomState(3)
    patterns = random.randint(20, 236, (KINDS, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    kinds = np.arange(count) % KINDS
    noise = random.randint(-12, 13, (count, EXTENT, EXTENT, 3))
    return (patterns[kinds] + noise).clip(0, 255).astype(np.uint8), kinds.astype(np.int64)


def write(case: Case, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The model's file, and a configuration with images that it is sure about."""
    pictures, kinds = draw(IMAGES)
    wanted = kinds * case.classes // KINDS + int(case.background)
    inputs = (pictures.astype(np.float32) / 255 - 0.5) / np.float32(0.5)
    inputs = inputs if case.nhwc else np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    model = classifier(case, inputs, wanted)
    onnx.save(model, folder / "m.onnx")
    found = scores(model, case, inputs)
    second, best = np.sort(found, axis=1)[:, -2:].T
    sure = np.flatnonzero(best - second > MARGIN)
    assert len(sure) > IMAGES * 3 // 4, "the images are too hard to tell mistakes from luck"
    lines = []
    for index in sure:
        Image.fromarray(pictures[index]).save(folder / f"{index:03d}.png")
        lines.append(f"{index:03d}.png {found[index].argmax() - int(case.background)}\n")
    (folder / "val.txt").write_text("".join(lines))
    return folder / "m.onnx", content(case, folder)


def content(case: Case, folder: Path) -> dict[str, Any]:
    transform: dict[str, Any] = {
        "Rescale": {},
        "Normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }
    if not case.nhwc:
        transform["Transpose"] = {"perm": [2, 0, 1]}
    if case.sized:
        transform = {"CenterCrop": {"size": EXTENT}, **transform}
    if case.background:
        transform["LabelShift"] = {"label_shift": -1}
    loader = {
        "batch_size": 7,
        "dataset": {"ImagenetRaw": {"data_path": str(folder)}},
        "transform": transform,
    }
    return {
        "quantization": {"calibration": {"sampling_size": CALIBRATION, "dataloader": dict(loader)}},
        "evaluation": {"accuracy": {"dataloader": loader}},
        "threads": 2,
    }


@pytest.mark.parametrize("name", CASES)
def test_every_kind_is_integer_within_tolerance(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    (tmp_path / "images").mkdir()
    model, fields = write(case, tmp_path / "images")
    # Charts look the same for all of them, and take most of the time.
    brief = ReportOptions(pages=name == "plain")
    result = quantize.tune(model, fields, tmp_path / "out", report=brief)
    assert result.passed, result.sentence
    assert [entry for entry in result.report["tuning"]["fp32_operators"] if entry["fallback"]] == []
    fp32 = result.report["models"]["fp32"]["accuracy"]
    assert fp32["top1_correct"] == result.report["images"]["evaluation"]["count"] > IMAGES // 2
    for kind, artefact in result.verification.artefacts.items():
        assert artefact.facts.coverage.weighted == 3, kind
        assert artefact.facts.coverage.integer_weighted == 3, kind
        # The images are those that the model is sure about.
        assert artefact.facts.counts.top1 > 0.99, kind
    equality = result.verification.formats_equality
    assert equality is not None
    assert equality.bit_equal
    assert any("batches of 4; batch_size 7 is not used" in line for line in result.report["warnings"]) == (
        case.batch == 4
    )
    for path in result.models.values():
        made, given = onnx.load(path), onnx.load(model)
        assert read_signature(made, path).input_shape == read_signature(given, model).input_shape
        assert read_signature(made, path).classes == case.classes
        assert read_signature(made, path).probabilities == case.softmax


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Rescale": {}}, r"makes 16x16x3 of .*\.png, but the model's input 'image' takes 3x16x16"),
        (
            {"Resize": {"size": 12}, "Rescale": {}, "Transpose": {"perm": [2, 0, 1]}},
            r"makes 3x12x12|of shape \[3, 12, 12\]",
        ),
    ],
    ids=["Transpose forgotten", "wrong size"],
)
def test_transforms_that_do_not_fit_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    model, fields = write(CASES["plain"], tmp_path / "images")
    fields["evaluation"]["accuracy"]["dataloader"]["transform"] = change
    with pytest.raises(InputError, match=message):
        quantize.tune(model, fields, tmp_path / "out")
    fields["quantization"]["calibration"]["dataloader"]["transform"] = change
    with pytest.raises(InputError, match=message):
        quantize.tune(model, fields, tmp_path / "out")
