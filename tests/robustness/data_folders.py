"""Data folders with a list, and what may be expected of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from calibration.errors import InputError


def listing_of(root: Path, content: str | bytes) -> Path:
    path = root / "val.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert caught.value.exit_code == 2
    return message


def make_root(tmp_path: Path) -> Path:
    """A data folder with an image in it, and beside it files that are none of its business."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (tmp_path / "private").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "private" / "b.png")
    return folder
