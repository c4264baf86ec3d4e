"""An int8 model with a report about it, in the shape that tuning writes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.conftest import ModelFiles

Folder = Callable[..., Path]


def report_about(model: Path, fp32: Path, *, kind: str = "QOperator", passed: bool = True) -> dict[str, Any]:
    """The fields of a report that a package is made of; the figures are the zoo's own for MobileNetV2."""
    accuracy = {"images": 50000, "top1_fraction": 0.6830, "top5_fraction": 0.8844}
    interval = {"estimate": 0.01698, "low": 0.0121, "high": 0.0218}
    return {
        "verdict": {"passed": passed, "sentence": "PASS: fine" if passed else "FAIL: too much lost"},
        "latency_images": 1,
        "images": {
            "calibration": {"count": 100},
            "overlap_count": 0,
            "transforms": [{"name": "CenterCrop", "size": [8, 8]}, {"name": "Rescale"}],
        },
        "schema_version": "1.2",
        "models": {
            "fp32": {
                "path": f"/home-of-someone/{fp32.name}",
                "sha256": hashlib.sha256(fp32.read_bytes()).hexdigest(),
                "size_bytes": fp32.stat().st_size,
                "accuracy": {"images": 50000, "top1_fraction": 0.6948, "top5_fraction": 0.8926},
                "latency": {"median_ms": 8.0},
            },
            "int8": {
                kind: {
                    "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
                    "accuracy": accuracy,
                    "decline": {
                        "top1": {"relative_fraction": interval},
                        "top5": {"relative_fraction": interval | {"estimate": 0.0092}},
                    },
                    "agreement_fraction": 0.91,
                    "kl_nats": 0.05,
                    "kernels": {"integer_weighted": 3, "weighted": 3},
                    "speed_up": 1.05,
                    "latency": {"median_ms": 7.6},
                }
            },
        },
        "run": {
            "packages": {"onnx": "1.9.0"},
            "platform": {"cpu": "A CPU | with <bars>", "system": "Linux 6"},
            "command": ["python", "-m", "quantize", "tune", f"--input_model=/home-of-someone/{fp32.name}"],
        },
    }


@pytest.fixture
def tuned(model_files: ModelFiles, tmp_path: Path) -> Path:
    """The int8 model, `net-12-int8.onnx`, with `report.json` beside it."""
    model, fp32 = tmp_path / "net-12-int8.onnx", tmp_path / "net-12.onnx"
    shutil.copy(model_files.qoperator, model)
    shutil.copy(model_files.fp32, fp32)
    (tmp_path / "report.json").write_text(json.dumps(report_about(model, fp32)), encoding="utf-8")
    return model
