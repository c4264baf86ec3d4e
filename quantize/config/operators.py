"""Which operators `op_wise` and `optype_wise` keep in fp32."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from quantize.config.unused import keeps_fp32

__all__ = ["forced_patterns", "stays_fp32"]


def forced_patterns(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of an `op_wise` or `optype_wise` section whose operators stay in fp32."""
    return tuple(pattern for pattern, choices in settings.items() if keeps_fp32(choices))


def stays_fp32(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns means this name.

    The engine reads a pattern as a regular expression for the whole name; the 1.x examples write shell
    wildcards (`Gather_*`). A name is meant when either reading matches.
    """
    return any(
        name == pattern or re.fullmatch(pattern, name) is not None or fnmatchcase(name, pattern)
        for pattern in patterns
    )
