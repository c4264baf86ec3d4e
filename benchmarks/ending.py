"""How a benchmark ends as a program: with its exit code, or one line that says what was wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from benchmarks.process import ProgramFailed
from calibration.errors import PipelineError

_WRONG = 2


def end_with(main: Callable[[], int]) -> NoReturn:
    """Runs a program and exits with its code; 2 where a file, a value or a program it ran was at fault."""
    try:
        code = main()
    except (PipelineError, ProgramFailed, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = _WRONG
    sys.exit(code)
