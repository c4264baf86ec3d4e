"""Image files for the small classifiers of `tests/quantize/conftest.py`, and the configuration for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(
        """
evaluation:
  accuracy:
    dataloader:
      dataset: {ImageFolder: {root: <DIR>}}
      transform:
        CenterCrop: {size: 8}
        Rescale: {}
        Normalize: {mean: 0.5, std: 0.25}
        Transpose: {perm: [2, 0, 1]}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(3)
    paths = [folder / f"{number:02}.png" for number in range(11)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (10, 9, 3), dtype=np.uint8)).save(path)
    return paths
