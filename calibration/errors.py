"""The errors that this project raises on purpose; everything else is a bug.

The tree is small so that the command line can catch its root, print one line, and exit with `exit_code`.
"""

from __future__ import annotations

import errno


class PipelineError(Exception):
    """Root of every deliberate error.

    Attributes:
        exit_code: what the command line exits with; 3 means that the work itself failed.
    """

    exit_code: int = 3


class InputError(PipelineError):
    """Something the user gave us is wrong: a path, a field, a value, an image, a model.

    The message is one line that names the file or field, the value, and the cure.
    """

    exit_code = 2


# What the system refuses for want of room or of a right to more, whatever was asked of it -> the cure.
LIMITS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the system's limit of open files (fs.file-max)",
}


def limit_behind(error: BaseException | None) -> OSError | None:
    """The limit of the system that an error comes from, by the errors that it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in LIMITS:
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


# A value is quoted to be recognised, not to be read in full.
_QUOTED_CHARACTERS = 120


def quoted(value: object) -> str:
    """A value for a message, as `repr` writes it and cut where it is long; by its type where that fails."""
    try:
        text = repr(value[: 2 * _QUOTED_CHARACTERS] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # integers of thousands of digits, and what contains itself
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…"
