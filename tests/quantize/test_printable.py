from __future__ import annotations

import math

import pytest

from quantize.printable import json_ready, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tench, Tinca tinca", "tench, Tinca tinca"),
        ("żółw 龟", "żółw 龟"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("evil\u202egnp.exe", r"evil\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_a_long_name_keeps_its_end() -> None:
    assert shortened("folder/photo.jpg", 10) == "…photo.jpg"
    assert shortened("photo.jpg", 10) == "photo.jpg"
    assert len(shortened("\x1b" * 20, 10)) == 10


def test_json_has_no_word_for_what_is_not_finite() -> None:
    given = {"a": [1.0, math.nan, {"b": math.inf}], "c": (2, -math.inf)}
    assert json_ready(given) == {"a": [1.0, None, {"b": None}], "c": [2, None]}
