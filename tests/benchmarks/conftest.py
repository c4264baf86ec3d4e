"""A few digits as files, with a configuration for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from calibration.digits import load_strokes, render_digit


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    strokes, labels = load_strokes()
    lines = []
    for index in range(120):
        Image.fromarray(render_digit(strokes[index], index)).save(folder / f"{index}.png")
        lines.append(f"{index}.png {labels[index]}")
    (folder / "val.txt").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text(
        """
quantization:
  calibration:
    sampling_size: 30
    dataloader: &loader
      dataset: {ImagenetRaw: {data_path: /path/to/x, image_list: /path/to/y}}
      transform: {Rescale: {}, Normalize: {mean: 0.5, std: 0.25}, Transpose: {perm: [2, 0, 1]}}
evaluation: {accuracy: {dataloader: *loader}}
tuning: {accuracy_criterion: {absolute: 0.5}}
"""
    )
    return folder
