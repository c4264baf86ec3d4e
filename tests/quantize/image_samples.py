"""Small image sets on disk, and configurations that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from quantize.config import Config
from quantize.data import Data, load_data
from quantize.model import Signature

CLASSES = 4
EXTENT = 12
TRANSFORM: dict[str, Any] = {"Rescale": {}, "Transpose": {"perm": [2, 0, 1]}, "Cast": {"dtype": "float32"}}
SIGNATURE = Signature("image", (None, 3, EXTENT, EXTENT), "NCHW", "scores", CLASSES, False, 13)


def write_folders(root: Path, count: int, *, seed: int = 0, extent: int = EXTENT) -> Path:
    """Class folders 0 to 3, and `val.txt` beside them, of the same images."""
    random = np.random.RandomState(seed)
    lines = []
    for index in range(count):
        name = f"{index % CLASSES}/{index:03d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (extent, extent, 3)).astype(np.uint8)).save(root / name)
        lines.append(f"{name} {index % CLASSES}\n")
    (root / "val.txt").write_text("".join(lines))
    return root


def folders(root: Path) -> dict[str, Any]:
    return {"ImageFolder": {"root": str(root)}}


def listed(root: Path, image_list: Path | None = None) -> dict[str, Any]:
    return {"ImagenetRaw": {"data_path": str(root), "image_list": str(image_list or root / "val.txt")}}


def configured(
    calibration: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    *,
    transform: Mapping[str, Any] = TRANSFORM,
    **changes: object,
) -> Config:
    content = {
        "quantization": {
            "calibration": {
                "sampling_size": 10,
                "dataloader": {"dataset": calibration, "transform": transform},
            }
        },
        "evaluation": {"accuracy": {"dataloader": {"dataset": evaluation, "transform": transform}}},
        "refine": {"effort": "none"},
    }
    names = {
        "allow_overlap": "quantization.calibration.allow_overlap",
        "calibration_samples": "quantization.calibration.sampling_size",
        "eval_samples": "evaluation.accuracy.sampling_size",
        "refine": "refine.effort",
        "selection_samples": "refine.selection_samples",
        "seed": "tuning.random_seed",
        "threads": "threads",
        "batch_size": "evaluation.accuracy.dataloader.batch_size",
        "calibration_batch_size": "quantization.calibration.dataloader.batch_size",
        "performance_batch_size": "evaluation.performance.dataloader.batch_size",
    }
    return Config.from_mapping(content).with_overrides({names[key]: value for key, value in changes.items()})


def load(config: Config, signature: Signature = SIGNATURE) -> Data:
    return load_data(config, signature, progress=False)
