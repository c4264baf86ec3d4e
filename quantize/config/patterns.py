"""Patterns of operator names: regular expressions that cannot take for ever, on names that anybody chose."""

from __future__ import annotations

import re

from quantize.errors import quoted

__all__ = ["check_pattern"]

_LONGEST_CHARACTERS = 500

_ESCAPED = re.compile(r"\\.|\[\^?\]?[^\]]*\]")
_INNERMOST = re.compile(r"\([^()]*\)")
# Stands for a group that can match the same text in several ways.
_MANY_WAYS = "\0"


def check_pattern(pattern: str) -> None:
    """Accepts a regular expression whose matching does not explode.

    A group that can match one text in several ways (`a+`, `a|aa`), repeated (`(a+)+`), has exponentially many
    ways to match a long name, and Python's matcher tries them all before it gives up.

    Raises:
        ValueError: it is not valid, too long, or repeats such a group.
    """
    if len(pattern) > _LONGEST_CHARACTERS:
        raise ValueError(
            f"{quoted(pattern)} has {len(pattern)} characters; a pattern may have {_LONGEST_CHARACTERS}"
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{quoted(pattern)} is not a valid pattern: {error}") from error
    if _explodes(pattern):
        raise ValueError(
            f"{quoted(pattern)} repeats a group that repeats or chooses inside, which may take for ever; "
            "write it without, for example `a+` for `(a+)+`"
        )


def _explodes(pattern: str) -> bool:
    text = _ESCAPED.sub("x", pattern.replace(_MANY_WAYS, "x"))
    while group := _INNERMOST.search(text):
        many = any(character in group.group() for character in ("*", "+", "{", "|", _MANY_WAYS))
        if many and text[group.end() : group.end() + 1] in ("*", "+", "{"):
            return True
        text = text[: group.start()] + (_MANY_WAYS if many else "x") + text[group.end() :]
    return False
