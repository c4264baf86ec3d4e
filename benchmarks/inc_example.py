"""Intel Neural Compressor 3.7.1 as its published image classification examples use it, both formats.

Per format: `quantization.fit` with a calibration dataloader and an evaluation function, both over the images
one by one, in Python, decoded anew for every pass. Everything else is the engine's default, as there. Only
the tables that newer versions of onnx no longer have are put in place, without which it cannot be imported.

Run in a process of its own: `python -m benchmarks.inc_example MODEL IMAGES LIST OUT`; prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.naive_images import NaiveLoader

_FORMATS = ("QOperator", "QDQ")
# The engine's own default, written out because the table of results names it.
_CALIBRATION_IMAGES = 100


class _Accuracy:
    """The evaluation function: an object, because the engine scans the source text of plain functions."""

    def __init__(self, loader: NaiveLoader) -> None:
        self._loader = loader

    def __call__(self, model: Any) -> float:
        """Top-1 of a ModelProto, as a fraction."""
        import onnxruntime as ort

        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        right = [
            int(np.argmax(session.run(None, {name: image})[0])) == label for image, label in self._loader
        ]
        return sum(right) / len(right)


def quantize_both(model_path: Path, loader: NaiveLoader, out: Path) -> dict[str, str]:
    """Runs the engine to its end for each format; returns format → file for those that it found."""
    from quantize.engine.compatibility import contained

    found = {}
    for kind in _FORMATS:
        with contained(workspace=None, seed=9527, verbose=False, lean=False):
            from neural_compressor import quantization
            from neural_compressor.config import PostTrainingQuantConfig

            settings = PostTrainingQuantConfig(
                quant_format=kind, calibration_sampling_size=[_CALIBRATION_IMAGES]
            )
            model = quantization.fit(
                onnx.load(model_path), settings, calib_dataloader=loader, eval_func=_Accuracy(loader)
            )
            if model is not None:
                path = out / f"inc-{kind.lower()}.onnx"
                model.save(str(path))
                found[kind] = str(path)
    return found


def main(arguments: list[str]) -> int:
    """The program."""
    model, images, image_list, out = map(Path, arguments)
    loader = NaiveLoader(images, image_list)
    found = quantize_both(model, loader, out)
    print(json.dumps({"models": found, "images_decoded": loader.decoded_count}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
