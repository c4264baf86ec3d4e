"""NNCF's post-training quantization with its default settings; one format, QDQ. Joins where it is installed.

Run in a process of its own: `python -m benchmarks.nncf_ptq MODEL IMAGES LIST OUT`; prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx

from benchmarks.naive_images import NaiveLoader

_CALIBRATION_IMAGES = 100


def main(arguments: list[str]) -> int:
    """The program."""
    import nncf

    model_path, images, image_list, out = map(Path, arguments)
    loader = NaiveLoader(images, image_list, _CALIBRATION_IMAGES)
    model = onnx.load(model_path)
    name = model.graph.input[0].name
    data = nncf.Dataset(loader, lambda item: {name: item[0]})
    quantized = nncf.quantize(model, data, subset_size=_CALIBRATION_IMAGES)
    path = out / "nncf-qdq.onnx"
    onnx.save(quantized, path)
    print(json.dumps({"models": {"QDQ": str(path)}, "images_decoded": loader.decoded_count}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
