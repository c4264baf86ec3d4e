"""Writes configurations, and expects them to be refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.config import load_config
from quantize.errors import InputError


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert caught.value.exit_code == 2
    return message


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def expect(folder: Path, text: str | bytes, line: int, field: str, problem: str) -> str:
    """The message begins with file and line and then the field."""
    path = written(folder, text)
    message = refused(path)
    start = f"c.yaml:{line}: {field}{': ' if field else ''}"
    assert message.removeprefix(f"{path.parent}/").startswith(start), message
    assert problem in message, message
    return message
