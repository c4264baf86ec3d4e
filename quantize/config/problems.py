"""pydantic's findings → one line that names the field, its line, the value and the cure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from quantize.config.document import Document
from quantize.config.fields import UNKNOWN_FIELD
from quantize.errors import InputError, quoted

__all__ = ["input_error"]

# Of each part of a field's name, which may be anything that somebody wrote.
_NAME_CHARACTERS = 80

_EXPECTED = {
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "dict_type": "expected fields",
}


def input_error(error: ValidationError, document: Document, flags: Mapping[str, str]) -> InputError:
    """Turn a failed validation into the error that the user reads.

    Args:
        error: what pydantic found.
        document: what was validated.
        flags: dotted field → the command-line flag that set it, which is then named instead of file and line.
    """
    findings = error.errors(include_url=False)
    first = findings[0]
    location = tuple(str(part) for part in first["loc"])
    if first["type"] == UNKNOWN_FIELD:
        location = (*location, str(first["ctx"]["field"]))
    dotted = ".".join(map(_short, location))
    flag = _flag_of(dotted, flags)
    where = flag if flag else f"{document.where(location)}: {dotted}".rstrip(": ")
    others = len(findings) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    return InputError(" ".join(f"{where}: {_explain(first)}{_hint(first)}{more}".split()))


def _flag_of(dotted: str, flags: Mapping[str, str]) -> str | None:
    """The flag that set this field, the section around it, or a field of the section that is at fault."""
    for field, flag in flags.items():
        if (dotted and f"{field}.".startswith(f"{dotted}.")) or f"{dotted}.".startswith(f"{field}."):
            return flag
    return None


def _explain(finding: Any) -> str:
    kind, context, given = finding["type"], finding.get("ctx", {}), quoted(finding["input"])
    if kind == "missing":
        return "is missing; add it"
    if kind == "value_error":
        return str(context["error"])
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, got {given}"
    if kind == "literal_error":
        return f"expected {context['expected']}, got {given}"
    bounds = {
        "greater_than_equal": "at least {ge:g}",
        "greater_than": "more than {gt:g}",
        "less_than": "less than {lt:.12g}",
        "less_than_equal": "at most {le:.12g}",
    }
    if kind in bounds:
        return f"expected {bounds[kind].format(**context)}, got {given}"
    return str(finding["msg"])


def _hint(finding: Any) -> str:
    """What to say about values that YAML 1.1 reads as another type than the one that was meant."""
    given = finding["input"]
    if isinstance(given, bool) and finding["type"] != "bool_type":
        return " (YAML reads yes, no, on and off as true and false; put quotes around text)"
    if finding["type"] in ("float_type", "int_type") and isinstance(given, str):
        with contextlib.suppress(ValueError):
            return f" (that is text to YAML; write {float(given)!r} without quotes)"
    return ""


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}…"
