"""Translates the user's restrictions per operator into what the engine really acts on.

The engine takes every key for a regular expression, so that an operator called `block[0]/conv` cannot be
named; it ignores keys that match nothing and values that it does not offer; and it takes the text "fp32" for
the set of its letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from quantize.ranges import RULES
from quantize.refine import AUTO

Restrictions = Mapping[str, Any]

# What an integer operator can be; see the adaptor's capabilities. fp32 takes the operator out.
_OFFERED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "activation": {
        "dtype": ("uint8", "fp32"),
        "scheme": ("asym",),
        "granularity": ("per_tensor",),
        "algorithm": (AUTO, *RULES),
        "quant_mode": ("static",),
    },
    "weight": {
        "dtype": ("int8", "fp32"),
        "scheme": ("sym",),
        "granularity": ("per_channel", "per_tensor"),
        "algorithm": ("minmax",),
    },
}


def translate(
    field: str, restrictions: Restrictions, names: Iterable[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Spells restrictions for the engine.

    Args:
        field: how the configuration calls them, for the warnings.
        restrictions: operator name or type, or a pattern of such -> part -> setting -> accepted values.
        names: the names (or types) of the operators that can be integers.

    Returns:
        Regular expression that matches exactly the operators meant -> the same with lists of values; and one
        warning for each key that matches no operator and each setting of which no value is offered.
    """
    known = sorted(set(names))
    spelled: dict[str, Any] = {}
    warnings: list[str] = []
    for position, (pattern, parts) in enumerate(restrictions.items()):
        matches = _matches(pattern, known)
        if not matches:
            warnings.append(f"{field}: {pattern!r} matches no operator that can be int8, and had no effect")
            continue
        followed: dict[str, dict[str, list[str]]] = {}
        for part, setting, values in _flattened(parts):
            offered = _OFFERED.get(part, {}).get(setting, ())
            if accepted := [value for value in values if value in offered]:
                followed.setdefault(part, {})[setting] = accepted
            else:
                choice = f"offered are {', '.join(offered)}" if offered else "there is no such setting"
                warnings.append(
                    f"{field}.{pattern}.{part}.{setting}: {', '.join(values)} had no effect; {choice}"
                )
        # The comment keeps apart two patterns that mean the same operators; the engine merges them in order.
        spelled[f"(?#{position})" + "|".join(map(re.escape, matches))] = followed
    return spelled, tuple(warnings)


def _matches(pattern: str, names: list[str]) -> list[str]:
    """A name as it is written, else a regular expression, else a shell pattern, as in the 1.x examples."""
    if pattern in names:
        return [pattern]
    try:
        expression = re.compile(pattern)
    except re.error:
        expression = re.compile(re.escape(pattern))
    return [n for n in names if expression.fullmatch(n)] or [n for n in names if fnmatchcase(n, pattern)]


def _flattened(parts: Mapping[str, Any] | None) -> Iterable[tuple[str, str, list[str]]]:
    """Part, setting and accepted values of each setting; empty ones restrict nothing and are left out."""
    for part, settings in (parts or {}).items():
        for setting, value in (settings or {}).items():
            values = value if isinstance(value, (list, tuple)) else [value]
            if named := [str(one) for one in values if one is not None]:
                yield part, setting, named
