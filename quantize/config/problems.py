"""pydantic's findings → one line that names the field, its line, the value and the cure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from quantize.config.document import Document
from quantize.config.fields import UNKNOWN_FIELD
from quantize.errors import InputError

__all__ = ["input_error"]

# A value is quoted to be recognised, not to be read in full.
_QUOTED_CHARACTERS = 80

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
    dotted = ".".join(location)
    flag = _flag_of(dotted, flags)
    where = flag if flag else f"{document.where(location)}: {dotted}".rstrip(": ")
    others = len(findings) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    return InputError(" ".join(f"{where}: {_explain(first)}{more}".split()))


def _flag_of(dotted: str, flags: Mapping[str, str]) -> str | None:
    """The flag that set this field, the section around it, or a field of the section that is at fault."""
    for field, flag in flags.items():
        if (dotted and f"{field}.".startswith(f"{dotted}.")) or f"{dotted}.".startswith(f"{field}."):
            return flag
    return None


def _explain(finding: Any) -> str:
    kind, context, given = finding["type"], finding.get("ctx", {}), _quoted(finding["input"])
    if kind == "missing":
        return "is missing; add it"
    if kind == "value_error":
        return str(context["error"])
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, got {given}"
    if kind == "literal_error":
        return f"expected {context['expected']}, got {given}"
    bounds = {"greater_than_equal": "at least {ge:g}", "less_than": "less than {lt:.12g}"}
    if kind in bounds:
        return f"expected {bounds[kind].format(**context)}, got {given}"
    return str(finding["msg"])


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…"
