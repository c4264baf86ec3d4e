"""Small seeded models that the measuring tests run: a float classifier, and both int8 formats of it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.quantize.cli_stand_ins import Recorder
from tests.quantize.image_samples import write_folders

CLASSES = 7
IMAGES = 24
ModelMaker = Callable[..., onnx.ModelProto]


def build_classifier(
    *,
    batch: int | str = "n",
    classes: int = CLASSES,
    softmax: bool = False,
    keep_spatial: bool = False,
    float16: bool = False,
    opset: int = 13,
) -> onnx.ModelProto:
    """Conv → Relu → MaxPool → Conv → GlobalAveragePool → (Flatten → Gemm), weights from one seed."""
    random = np.random.default_rng(7)
    kind, numpy_kind = (TensorProto.FLOAT16, np.float16) if float16 else (TensorProto.FLOAT, np.float32)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        return numpy_helper.from_array(values.astype(numpy_kind), name)

    width = classes if keep_spatial else 8
    weights = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("w2", width, 8, 3, 3), weight("b2", width)]
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv_1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu_1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], "conv_2", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"], "average"),
    ]
    scores, shape = "g", [batch, classes, 1, 1]
    if not keep_spatial:
        weights += [weight("w3", 8, classes), weight("b3", classes)]
        nodes.append(helper.make_node("Flatten", ["g"], ["f"], "flatten"))
        nodes.append(helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], "classifier"))
        scores, shape = "scores", [batch, classes]
    if softmax:
        nodes.append(helper.make_node("Softmax", [scores], ["probabilities"], "softmax", axis=1))
        scores = "probabilities"
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", kind, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(scores, kind, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def make_images(count: int = IMAGES, seed: int = 11) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 8, 8)).astype(np.float32)


class _Reader:
    """Feeds calibration images to ONNX Runtime's quantizer."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


@dataclass(frozen=True)
class ModelFiles:
    fp32: Path
    qoperator: Path
    qdq: Path
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def batches(self, size: int = 5) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        for start in range(0, len(self.images), size):
            yield self.images[start : start + size], self.labels[start : start + size]


@pytest.fixture(scope="session")
def make_classifier() -> ModelMaker:
    return build_classifier


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """One classifier as fp32, QOperator and QDQ files; every fourth label is not fp32's own answer."""
    import onnxruntime as ort
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    folder = tmp_path_factory.mktemp("models")
    fp32 = folder / "fp32.onnx"
    onnx.save(build_classifier(), fp32)
    paths = {}
    for kind in (QuantFormat.QOperator, QuantFormat.QDQ):
        paths[kind] = folder / f"{kind.name}.onnx"
        quantize_static(
            str(fp32),
            str(paths[kind]),
            _Reader(make_images(16, seed=5)),
            quant_format=kind,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    images = make_images()
    logits = ort.InferenceSession(str(fp32), providers=["CPUExecutionProvider"]).run(None, {"image": images})[
        0
    ]
    labels = logits.argmax(axis=1).astype(np.int64)
    labels[::4] = (labels[::4] + 1) % CLASSES
    return ModelFiles(fp32, paths[QuantFormat.QOperator], paths[QuantFormat.QDQ], images, labels)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    for module, names in {
        "quantize.pipeline": ("run_tune",),
        "quantize.measure": ("run_evaluate", "run_benchmark"),
        "quantize.demo": ("run_demo",),
    }.items():
        fake = types.ModuleType(module)
        for name in names:
            setattr(fake, name, getattr(recorder, name))
        monkeypatch.setitem(sys.modules, module, fake)
    return recorder


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a model.onnx").touch()
    (tmp_path / "c.yaml").write_text("tuning: {accuracy_criterion: {relative: 0.02}}\n")
    return tmp_path


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("many"), 40)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("few"), 12, seed=1)
