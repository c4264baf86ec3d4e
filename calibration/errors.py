"""The errors that this project raises on purpose; everything else is a bug.

The tree is small so that the command line can catch its root, print one line, and exit with `exit_code`.
"""

from __future__ import annotations


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
