"""A network that takes milliseconds, and images that it is right about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from PIL import Image

from tests.quantize.conftest import build_classifier

EXTENT = 8

_CONFIG = """
quantization:
  calibration:
    sampling_size: 30
    dataloader:
      dataset: &images
        ImagenetRaw: {data_path: DIR/images, image_list: DIR/val.txt}
      transform: &preprocessing {Rescale: {}, Transpose: {perm: [2, 0, 1]}, Cast: {dtype: float32}}
evaluation:
  accuracy:
    dataloader: {dataset: *images, transform: *preprocessing}
refine: {selection_samples: 10}
tuning:
  accuracy_criterion: {relative: 0.5}
"""


def write_tiny(folder: Path, *, images: int = 80) -> Path:
    """`net.onnx`, `c.yaml` and the images that it names; labels are the network's own answers."""
    (folder / "images").mkdir(parents=True)
    model = build_classifier()
    onnx.save(model, folder / "net.onnx")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(5)
    lines = []
    for number in range(images):
        pixels = random.integers(0, 256, (EXTENT, EXTENT, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:03d}.png")
        planes = np.float32(pixels.transpose(2, 0, 1)[None] / np.float32(255))
        (scores,) = session.run(None, {"image": planes})
        lines.append(f"{number:03d}.png {int(scores.argmax())}\n")
    (folder / "val.txt").write_text("".join(lines))
    (folder / "c.yaml").write_text(_CONFIG.replace("DIR", str(folder)))
    return folder
