"""Loads an image that has to be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration.decode import load_image
from calibration.errors import InputError


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")
