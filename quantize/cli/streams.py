"""Standard streams that may be closed, full, or read by somebody who has left."""

from __future__ import annotations

import contextlib
import os
import sys

_STREAMS = ("stdin", "stdout", "stderr")


def open_standard_streams() -> None:
    """Opens what was closed when the program began, to nowhere.

    Otherwise the next file that is opened would get the number of a standard stream, and what a library
    prints would end up in it; and Python would print on standard output what is meant for standard error.
    """
    for number, name in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def discard_output() -> None:
    """Lets what is still waiting to be written go nowhere: Python would complain of it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
