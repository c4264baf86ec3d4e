"""ONNX Runtime's `quantize_static` as its documentation recommends it for convolutions, both formats.

Preprocessed by its own tool (without symbolic shapes, which need a further package and serve
transformers); weights per channel, 7 bits (`reduce_range`, for processors without VNNI),
activations uint8 by their extremes. It measures no accuracy.

Run in a process of its own: `python -m benchmarks.ort_static MODEL IMAGES LIST OUT`; prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.naive_images import NaiveLoader

_CALIBRATION_IMAGES = 100
_LEAST_OPSET = 13


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the package is untyped
    def __init__(self, loader: NaiveLoader, name: str) -> None:
        self._images, self._name = iter(loader), name

    def get_next(self) -> dict[str, Any] | None:
        """The next image, or None at the end."""
        item = next(self._images, None)
        return None if item is None else {self._name: item[0]}


def _with_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """At opset 13 or later, where DequantizeLinear has the axis that scales per channel need."""
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version >= _LEAST_OPSET:
        return model
    converted: onnx.ModelProto = version_converter.convert_version(model, _LEAST_OPSET)
    return converted


def main(arguments: list[str]) -> int:
    """The program."""
    model, images, image_list, out = map(Path, arguments)
    loader = NaiveLoader(images, image_list, _CALIBRATION_IMAGES)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    prepared = out / "prepared.onnx"
    onnx.save(_with_axes(onnx.load(model)), prepared)
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    found = {}
    for kind in (QuantFormat.QOperator, QuantFormat.QDQ):
        path = out / f"ort-{kind.name.lower()}.onnx"
        quantize_static(
            str(prepared),
            str(path),
            _Reader(loader, name),
            quant_format=kind,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        found[kind.name] = str(path)
    print(json.dumps({"models": found, "images_decoded": loader.decoded_count}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
