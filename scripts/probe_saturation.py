"""Finds out which neighbouring products ONNX Runtime's AVX2 kernels add in int16, pair by pair.

    python scripts/probe_saturation.py

Every output channel of a probe has two weights of 127, at positions i and j of its K, and zeros elsewhere;
all activations are 255. Only a kernel that adds exactly these two in int16 saturates (2 · 255 · 127 = 64,770,
which is more than 32,767) and gives a smaller sum. The list of such pairs, from an emulated AVX2 CPU
(`check_on_avx2.py`), is what `quantize/portability.py` holds the weights of an artefact against.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from check_on_avx2 import outputs_on_both
from onnx import TensorProto, helper, numpy_helper

_MOST = 127


@dataclass(frozen=True)
class Probe:
    """One operator.

    Attributes:
        label: what it is.
        size: its K, the number of products that an output sums up.
        model: makes the model from weights [channels, K], K in packed order (kh, kw, cin).
        shape: of the image.
    """

    label: str
    size: int
    model: Callable[[np.ndarray], onnx.ModelProto]
    shape: tuple[int, ...]


def _conv(cin: int, kernel: int, group: int = 1, extent: int | None = None) -> Probe:
    extent = extent or kernel

    def model(packed: np.ndarray) -> onnx.ModelProto:
        weights = packed.reshape(-1, kernel, kernel, cin).transpose(0, 3, 1, 2)
        weights = np.concatenate([weights] * group)
        return _model(weights, "QLinearConv", (1, cin * group, extent, extent), group=group)

    return Probe(
        f"Conv {kernel}x{kernel}, {cin} inputs per group, {group} groups, image {extent}x{extent}",
        kernel * kernel * cin,
        model,
        (1, cin * group, extent, extent),
    )


def _product(size: int, op_type: str, rows: int = 1) -> Probe:
    def model(packed: np.ndarray) -> onnx.ModelProto:
        return _model(packed if op_type == "QGemm" else packed.T, op_type, (rows, size))

    return Probe(f"{op_type}, K = {size}, {rows} rows", size, model, (rows, size))


def _model(weights: np.ndarray, op_type: str, shape: tuple[int, ...], **attributes: int) -> onnx.ModelProto:
    """Q → the operator → DQ; scales that keep 65,535 apart from half of it in 8 bits."""
    constants = {
        "one": np.float32(1.0),
        "w_scale": np.float32(1.0),
        "y_scale": np.float32(2 * 255 * _MOST / 255),
        "zero": np.uint8(0),
        "w_zero": np.int8(0),
        "w": np.ascontiguousarray(weights.astype(np.int8)),
    }
    x, w, y = ["q", "one", "zero"], ["w", "w_scale", "w_zero"], ["y_scale", "zero"]
    if op_type == "QGemm":
        node = helper.make_node(op_type, [*x, *w, "", *y], ["r"], domain="com.microsoft", transB=1)
    elif op_type == "MatMulIntegerToFloat":
        inputs = ["q", "w", "one", "w_scale", "zero", "w_zero"]
        node = helper.make_node(op_type, inputs, ["scores"], domain="com.microsoft")
    else:
        node = helper.make_node(op_type, [*x, *w, *y], ["r"], **attributes)
    nodes = [helper.make_node("QuantizeLinear", ["image", "one", "zero"], ["q"]), node]
    if node.output[0] == "r":
        nodes.append(helper.make_node("DequantizeLinear", ["r", *y], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def probes() -> list[Probe]:
    """Dense, grouped and depthwise convolutions of odd and even width, and matrix products."""
    convolutions = [_conv(cin, kernel) for kernel in (1, 3) for cin in (2, 3, 4, 5, 6, 8)]
    larger = [_conv(cin, 3, extent=7) for cin in (1, 3, 4, 5, 6)]
    grouped = [_conv(cin, 3, group=2) for cin in (1, 2, 3, 4)] + [_conv(4, 1, group=2)]
    products = [
        _product(size, op_type, rows)
        for op_type in ("QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
        for size in (5, 8)
        for rows in (1, 3)
    ]
    return [*convolutions, *larger, *grouped, *products]


def depthwise_probe(channels: int, kernel: int) -> Probe:
    """One input and one output channel per group: every channel has the same two weights."""
    shape = (1, channels, kernel, kernel)

    def model(packed: np.ndarray) -> onnx.ModelProto:
        weights = np.resize(packed, (channels, kernel * kernel)).reshape(channels, 1, kernel, kernel)
        return _model(weights, "QLinearConv", shape, group=channels)

    return Probe(f"Conv {kernel}x{kernel} depthwise, {channels} channels", kernel * kernel, model, shape)


# Pairs at the limits of int16 with activations of 255: 128 · 255 = 32,640 fits, 129 · 255 = 32,895 does not.
EDGES = (
    *((64, 64), (65, 64), (127, 1), (127, 2), (-64, -64), (-65, -64), (-127, -1), (-127, -2)),
    *((127, -127), (-128, 127), (-128, 0), (-128, -1)),
)


def _pairs(size: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(size), 2))


def _weights(size: int) -> np.ndarray:
    weights = np.zeros((len(_pairs(size)), size))
    for row, pair in enumerate(_pairs(size)):
        weights[row, pair] = _MOST
    return weights


def found_edges() -> list[tuple[tuple[int, int], bool]]:
    """Each of `EDGES`, and whether its sum saturated."""
    size = 2
    model = _product(size, "MatMulIntegerToFloat").model(np.array(EDGES))
    with tempfile.TemporaryDirectory(prefix="quantize-probe-") as name:
        path = Path(name) / "edges.onnx"
        onnx.save(model, path)
        ((exact, emulated),) = outputs_on_both([(path, np.full((1, size), 255.0, np.float32))], Path(name))
    return list(zip(EDGES, (exact != emulated).ravel().tolist(), strict=True))


def found_pairs() -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Each probe's label and the pairs of positions of which the sum saturated."""
    every = probes()
    with tempfile.TemporaryDirectory(prefix="quantize-probe-") as name:
        folder = Path(name)
        cases = []
        for number, probe in enumerate(every):
            path = folder / f"probe-{number}.onnx"
            onnx.save(probe.model(_weights(probe.size)), path)
            cases.append((path, np.full(probe.shape, 255.0, np.float32)))
        # All channels of a depthwise convolution share their pair, so it takes a model per pair.
        deep = [depthwise_probe(channels, kernel) for channels, kernel in ((16, 3), (5, 3), (8, 5))]
        for probe in deep:
            for row, weights in enumerate(_weights(probe.size)):
                path = folder / f"depthwise-{len(cases)}-{row}.onnx"
                onnx.save(probe.model(weights), path)
                cases.append((path, np.full(probe.shape, 255.0, np.float32)))
        results = outputs_on_both(cases, folder)
    for probe, (exact, emulated) in zip(every, results, strict=False):
        differ = (exact != emulated).reshape(-1, exact.shape[1], *exact.shape[2:])
        channel = differ.any(axis=tuple(axis for axis in range(differ.ndim) if axis != 1))
        count = len(_pairs(probe.size))
        hit = channel.reshape(-1, count).any(axis=0)
        yield (
            probe.label,
            [pair for pair, saturated in zip(_pairs(probe.size), hit, strict=True) if saturated],
        )
    rest = iter(results[len(every) :])
    for probe in deep:
        found = [(pair, next(rest)) for pair in _pairs(probe.size)]
        yield probe.label, [pair for pair, (exact, emulated) in found if (exact != emulated).any()]


def main() -> int:
    """The script."""
    for label, pairs in found_pairs():
        print(f"{label}: {' '.join(f'{i},{j}' for i, j in pairs) or 'none'}")
    for (a, b), saturated in found_edges():
        print(f"weights {a} and {b}: {'saturate' if saturated else 'exact'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
