"""The command `sensitivity` on a small trained network, with few images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quantize.config import SHIPPED_FOLDER, Config, load_config
from quantize.sensitivity import run_sensitivity

MODEL = Path(__file__).resolve().parents[1] / "fixtures" / "networks" / "digits-squeezenet.onnx"
SAMPLES = 24


def config_of(digits: Path, *, effort: str) -> Config:
    """Of the images that `write_digits_dataset` wrote; `effort` is that of refinement."""
    root = "dataloader.dataset.ImageFolder.root"
    return load_config(SHIPPED_FOLDER / "demo_digits.yaml").with_overrides(
        {
            f"quantization.calibration.{root}": digits / "calibration",
            f"evaluation.accuracy.{root}": digits / "evaluation",
            "quantization.calibration.sampling_size": 40,
            "refine.effort": effort,
        }
    )


def run(config: Config, output: Path, **options: Any) -> int:
    return run_sensitivity(
        config, input_model=MODEL, output=output, samples=SAMPLES, verbosity="quiet", **options
    )


def content(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made
