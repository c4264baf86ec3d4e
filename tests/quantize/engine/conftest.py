"""A small residual classifier with every kind of operator that the engine meets, and a task to tune it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.criterion import Criterion
from quantize.engine import EngineOptions, Task
from quantize.kernels import Coverage, integer_coverage
from quantize.metrics import Fidelity
from quantize.model import Signature
from quantize.operators import take_inventory
from quantize.prepare import prepare
from quantize.ranges import RangeTable, collect_extremes, collect_histograms
from quantize.session import make_session, outputs
from quantize.target import PORTABLE

CLASSES, WIDTH, SIZE = 5, 8, 8
WEIGHTED = ("stem", "expand", "depthwise", "project", "classifier")
Images = npt.NDArray[np.float32]


def build_network(*, opset: int = 13, outlier: str | None = None) -> onnx.ModelProto:
    """stem → [expand → depthwise → project] + skip → mean → classifier; two of the convolutions have ReLU6.

    Args:
        outlier: a convolution whose first output channel is 3,000 times as large as the others.
    """
    random = np.random.default_rng(3)
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        values = random.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
        if name == f"{outlier}_w":
            values[0] *= 3000.0
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def bias(name: str, count: int) -> str:
        weights.append(numpy_helper.from_array(random.normal(0, 0.1, count).astype(np.float32), name))
        return name

    def relu6(source: str, result: str) -> onnx.NodeProto:
        if opset < 11:
            return helper.make_node("Clip", [source], [result], f"{result}_clip", min=0.0, max=6.0)
        return helper.make_node("Clip", [source, "zero", "six"], [result], f"{result}_clip")

    def conv(name: str, source: str, result: str, cout: int, cin: int, **options: Any) -> onnx.NodeProto:
        kernel = 1 if options.get("pads") is None else 3
        inputs = [source, weight(f"{name}_w", cout, cin, kernel, kernel), bias(f"{name}_b", cout)]
        return helper.make_node("Conv", inputs, [result], name, **options)

    if opset >= 11:
        weights += [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0.0), ("six", 6.0))]
    nodes = [
        conv("stem", "image", "s", WIDTH, 3, pads=[1, 1, 1, 1], strides=[2, 2]),
        relu6("s", "s6"),
        conv("expand", "s6", "e", 2 * WIDTH, WIDTH),
        relu6("e", "e6"),
        conv("depthwise", "e6", "d", 2 * WIDTH, 1, pads=[1, 1, 1, 1], group=2 * WIDTH),
        helper.make_node("Relu", ["d"], ["dr"], "depthwise_relu"),
        conv("project", "dr", "p", WIDTH, 2 * WIDTH),
        helper.make_node("Add", ["p", "s6"], ["sum"], "residual"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten", axis=1),
        helper.make_node(
            "Gemm",
            ["flat", weight("classifier_w", CLASSES, WIDTH), bias("classifier_b", CLASSES)],
            ["scores"],
            "classifier",
            transB=1,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def make_images(count: int, seed: int) -> Images:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, SIZE, SIZE)).astype(np.float32)


@dataclass
class CountingLoader:
    """Counts how often it was begun."""

    images: Images
    batch_size: int = 4
    passes: int = 0

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Images, npt.NDArray[np.int64]]]:
        self.passes += 1
        for start in range(0, len(self.images), self.batch_size):
            batch = self.images[start : start + self.batch_size]
            yield batch, np.zeros(len(batch), np.int64)


@dataclass
class RealJudge:
    """Accuracy on images of which fp32 is right on nine in ten; remembers what it judged."""

    fp32: onnx.ModelProto
    images: Images = field(default_factory=lambda: make_images(60, 21))
    judged: list[onnx.ModelProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.labels = outputs(make_session(self.fp32, threads=1), self.images).argmax(axis=1)
        self.labels[::10] = (self.labels[::10] + 1) % CLASSES

    def __call__(self, model: onnx.ModelProto) -> float:
        self.judged.append(model)
        found = outputs(make_session(model, threads=1), self.images).argmax(axis=1)
        return float(np.mean(found == self.labels))


@dataclass
class RealDivergence:
    fp32: onnx.ModelProto
    images: Images

    def __call__(self, model: onnx.ModelProto) -> float:
        one, two = (outputs(make_session(m, threads=1), self.images) for m in (self.fp32, model))
        return Fidelity.from_logits(one, two, probabilities=False).kl


def integer_operators(model: onnx.ModelProto) -> set[str]:
    """The weighted operators whose weights are dequantized integers; the engine adds suffixes to names."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.name.removesuffix("_quant")
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in dequantized
    }


@dataclass
class Harm:
    """A judge and a divergence in which every harmful operator costs its share while it is an integer."""

    shares: dict[str, float]
    judged: list[set[str]] = field(default_factory=list)

    def divergence(self, model: onnx.ModelProto) -> float:
        found = integer_operators(model)
        return sum(share for name, share in self.shares.items() if name in found)

    def __call__(self, model: onnx.ModelProto) -> float:
        self.judged.append(integer_operators(model))
        return max(0.9 - self.divergence(model), 0.0)


def make_prepared(**settings: Any) -> onnx.ModelProto:
    model = build_network(**settings)
    signature = Signature(
        "image", (None, 3, SIZE, SIZE), "NCHW", "scores", CLASSES, False, settings.get("opset", 13)
    )
    return prepare(model, signature)


def build_task(model: onnx.ModelProto | None = None, *, threads: int = 1, **changes: Any) -> Task:
    """A task with real ranges, judge and divergence, of which any part can be replaced."""
    model = make_prepared() if model is None else model
    inventory = take_inventory(model, PORTABLE)
    loader = changes.pop("loader", None) or CountingLoader(make_images(12, 5))
    tensors = list(dict.fromkeys(name for operator in inventory.quantizable for name in operator.tensors))
    extremes = collect_extremes(model, tensors, loader, threads=threads)
    ranges = RangeTable(extremes, lambda: collect_histograms(model, extremes, loader, threads=threads))
    parts: dict[str, Any] = {
        "ranges": ranges,
        "target": PORTABLE,
        "judge": RealJudge(model),
        "divergence": RealDivergence(model, loader.images),
    }
    return Task(model=model, inventory=inventory, loader=loader, **(parts | changes))


def build_options(tolerance: float = 0.2, **changes: Any) -> EngineOptions:
    return EngineOptions(
        criterion=Criterion("relative", tolerance), **({"calibration_samples": 12} | changes)
    )


def initializer(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def node_named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def producer_of(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if tensor in node.output)


def engines_own_fit(model: onnx.ModelProto, loader: Any, *, judge: Any = None, **settings: Any) -> Any:
    """What the engine's own entry point makes of a model, inside our containment."""
    from quantize.engine.compatibility import contained

    with contained(workspace=None, seed=1, verbose=False):
        from neural_compressor import PostTrainingQuantConfig, quantization

        settings = {"quant_level": 1, "calibration_sampling_size": [12], "reduce_range": False} | settings
        conf = PostTrainingQuantConfig(approach="static", **settings)
        return quantization.fit(model, conf, calib_dataloader=loader, eval_func=judge)


def engines_own_adaptor(**changes: Any) -> Any:
    from neural_compressor.adaptor.onnxrt import ONNXRUNTIMEAdaptor

    facts = {
        "device": "cpu",
        "approach": "post_training_static_quant",
        "backend": "default",
        "format": "QDQ",
        "workspace_path": ".",
        "recipes": {},
        "reduce_range": None,
    }
    return ONNXRUNTIMEAdaptor(facts | changes)


def coverage_of(model: onnx.ModelProto, folder: Path) -> Coverage:
    """What ONNX Runtime makes of a model."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return integer_coverage(path)


@pytest.fixture(scope="session")
def kit() -> Any:
    """This module, for tests: pytest imports it under a name that they cannot know."""
    return sys.modules[__name__]
