"""What the values of flags may look like: text → value, or one line that says what was expected."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OneOf", "gigabytes", "one_of", "path", "seconds", "text", "whole_number"]


# What Linux lets a file be called, in bytes; macOS and Windows about as much.
_LONGEST_NAME = 255


def path(written: str) -> Path:
    """A path; the shell does not expand `~` behind `--flag=`, so this does."""
    if not written.strip() or "\0" in written:
        raise ArgumentTypeError("expected a path, got nothing")
    longest = max(map(os.fsencode, written.split("/")), key=len)
    if len(longest) > _LONGEST_NAME:
        raise ArgumentTypeError(
            f"expected a path, got a name of {len(longest)} bytes: {os.fsdecode(longest)[:40]!r}…"
        )
    try:
        return Path(written).expanduser()
    except RuntimeError:  # `~somebody`, who is not known here
        return Path(written)


def text(written: str) -> str:
    """What the configuration judges."""
    return written


def whole_number(written: str) -> int:
    """An integer; which ones make sense is for the configuration to say."""
    try:
        return int(written)
    except ValueError:
        raise ArgumentTypeError(f"expected a whole number, got {written!r}") from None


def gigabytes(written: str) -> float:
    """A number of GB above 0."""
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"expected a number of GB above 0, such as 2 or 0.5, got {written!r}")
    return value


def seconds(written: str) -> float:
    """A finite number."""
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"expected a number of seconds, got {written!r}")
    return value


@dataclass(frozen=True)
class OneOf:
    """One of some words, in whatever case.

    Attributes:
        accepted: as they are handed on.
    """

    accepted: tuple[str, ...]

    def __call__(self, written: str) -> str:
        """The word that is meant."""
        by_lowercase = {word.lower(): word for word in self.accepted}
        if written.lower() not in by_lowercase:
            listed = " or ".join(filter(None, (", ".join(self.accepted[:-1]), self.accepted[-1])))
            raise ArgumentTypeError(f"expected {listed}, got {written!r}")
        return by_lowercase[written.lower()]


def one_of(*accepted: str) -> OneOf:
    """A parser for one of these words."""
    return OneOf(accepted)
