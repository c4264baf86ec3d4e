"""What `model_wise`, `optype_wise` and `op_wise` come down to for one operator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from quantize.config.restrictions import followed, keeps_fp32
from quantize.config.sections import Quantization

__all__ = ["forced_patterns", "means", "restrictions", "unmatched_patterns"]

# Part → field → the options that are left to the engine.
Restrictions = dict[str, dict[str, list[str]]]

_FP32: Restrictions = {"activation": {"dtype": ["fp32"]}, "weight": {"dtype": ["fp32"]}}


def forced_patterns(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of an `op_wise` or `optype_wise` section whose operators stay in fp32."""
    return tuple(pattern for pattern, choices in settings.items() if keeps_fp32(choices))


def means(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns means this name.

    The engine reads a pattern as a regular expression for the whole name; the 1.x examples write shell
    wildcards (`Gather_*`). A name is meant when either reading matches.
    """
    return any(
        name == pattern or re.fullmatch(pattern, name) is not None or fnmatchcase(name, pattern)
        for pattern in patterns
    )


def restrictions(quantization: Quantization, name: str, op_type: str) -> Restrictions:
    """What the engine may choose from for one operator, in its own notation; empty where all is allowed.

    The sections apply from the general to the particular, field by field: `model_wise`, `optype_wise`,
    `op_wise`. Choices that cannot be followed are left out; `unused_fields` names them.
    """
    merged: Restrictions = {}
    for settings in _applicable(quantization, name, op_type):
        if keeps_fp32(settings):
            return {part: dict(fields) for part, fields in _FP32.items()}
        for part, field, options in followed(settings):
            merged.setdefault(part, {})[field] = options
    return merged


def unmatched_patterns(quantization: Quantization, operators: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Dotted names of the entries that mean no operator.

    Args:
        quantization: the section.
        operators: name and type of every operator that can be int8.
    """
    names, types = zip(*operators, strict=True) if (operators := list(operators)) else ((), ())
    return tuple(
        f"quantization.{section}.{pattern}"
        for section, settings, known in (
            ("optype_wise", quantization.optype_wise, types),
            ("op_wise", quantization.op_wise, names),
        )
        for pattern in settings
        if not any(means(item, (pattern,)) for item in known)
    )


def _applicable(quantization: Quantization, name: str, op_type: str) -> Iterable[Mapping[str, Any]]:
    yield quantization.model_wise
    yield from (entry for key, entry in quantization.optype_wise.items() if means(op_type, (key,)))
    yield from (entry for key, entry in quantization.op_wise.items() if means(name, (key,)))
