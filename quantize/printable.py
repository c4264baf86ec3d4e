"""Text that others wrote, made safe to print: names of files, classes and tensors may hold anything."""

from __future__ import annotations

import math
from typing import Any

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Spells out every character that a terminal might obey instead of show.

    Control characters (ESC begins the sequences that move the cursor and rename windows), characters that
    turn the direction of writing, line separators, and halves of surrogate pairs (what a file name that is no
    UTF-8 becomes) are written as `\x1b` or `\u202e`; everything that `str.isprintable` lets pass stays.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _spelled(character) for character in text)


def shortened(text: str, columns: int) -> str:
    """At most `columns` characters of printable text; of a longer one the end, where file names differ."""
    safe = printable(text)
    return safe if len(safe) <= columns else "…" + safe[len(safe) - columns + 1 :]


def json_ready(value: Any) -> Any:
    """The same value with what JSON has no word for (NaN, infinities) as None."""
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _spelled(character: str) -> str:
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
