"""Guesses at what was meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]

# difflib's ratio for one wrong, missing or swapped letter in a name of five is about 0.8; unrelated field
# names of the schema reach 0.55. Between the two, a wrong guess costs little: it is put as a question.
_CUTOFF_FRACTION = 0.62

_LISTED_AT_MOST = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Half a sentence that helps with an unknown name.

    Args:
        name: what was written.
        known: what could have been written there.

    Returns:
        `did you mean 'X'?` for the nearest name, otherwise `known are A, B, C` (at most twelve of them);
        empty when nothing is known.
    """
    names = list(known)
    by_lowercase = {candidate.lower(): candidate for candidate in names}
    nearest = get_close_matches(name.lower(), by_lowercase, n=1, cutoff=_CUTOFF_FRACTION)
    if nearest:
        return f"did you mean {by_lowercase[nearest[0]]!r}?"
    if not names:
        return ""
    shown = ", ".join(names[:_LISTED_AT_MOST])
    return f"known are {shown}, …" if len(names) > _LISTED_AT_MOST else f"known are {shown}"
