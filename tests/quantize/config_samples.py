"""Small configurations that several test modules build on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantize.config import Config
from quantize.errors import InputError

DATA = Path(__file__).parent / "data"
CALIBRATION = "quantization.calibration.dataloader"
ACCURACY = "evaluation.accuracy.dataloader"
PERFORMANCE = "evaluation.performance.dataloader"
TRANSFORM = {"Rescale": {}, "Transpose": {"perm": [2, 0, 1]}}


def with_images(folder: str = "images", **more: Any) -> dict[str, Any]:
    loader = {"dataset": {"ImageFolder": {"root": folder}}, "transform": TRANSFORM}
    return {"evaluation": {"accuracy": {"dataloader": loader}}, **more}


def refused(content: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        Config.from_mapping(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)
