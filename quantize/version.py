"""The version of this project, as `pyproject.toml` has it (a test compares them).

A constant, because a checkout that was never installed has no package metadata to ask.
"""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
