"""Ends the process within two seconds of a signal, whatever it is doing.

A signal raises an exception in the main thread, which removes temporary files on its way out. That takes as
long as what is going on: a call into ONNX Runtime, an operator whose weights a thread is rounding, a library
that catches everything. So a second thread watches too. It learns of a signal from the system itself
(`signal.set_wakeup_fd`), without the main thread's help; if that has not ended the process by then, or if a
second signal says that nobody wants to wait, it removes this process's temporary folders and ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from calibration.claims import remove_living
from calibration.interrupts import ENDING, wait_for_uninterrupted

# What a shell reports for a program that a signal ended: 128 + its number.
SIGNAL_BASE = 128

# Half a second less than what is promised, for removing folders and for leaving.
_GRACE_S = 1.5
# The longest that files may take to get their final names.
_MOVING_S = 10.0


class Ended(BaseException):
    """A signal asked the process to end; its number is the argument."""


class Ending:
    """Turns signals that end a program into `Ended` for the time of a `with` block, in the main thread.

    Attributes:
        number: the first such signal, None before.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}
        self._hooks = sys.unraisablehook, threading.excepthook

    def __enter__(self) -> Ending:
        """Sets the handlers."""
        if threading.current_thread() is threading.main_thread():  # no other thread may
            for number in ENDING:
                handler = signal.getsignal(number)
                # None: somebody else's, not of Python. Ignored: `nohup` asks to survive SIGHUP, for example.
                if handler not in (None, signal.SIG_IGN):
                    self._before[number] = handler
                    signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        """Puts the handlers back that were there."""
        sys.unraisablehook, threading.excepthook = self._hooks
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            # Where it cannot be raised (a callback, a destructor), Python would print it and go on.
            sys.unraisablehook = threading.excepthook = _silent
        raise Ended(number)


def _silent(_: object) -> None:
    """Of what breaks because the process was asked to end, nobody needs to hear."""


def words(number: int) -> str:
    """What is said of a program that this signal ended."""
    return "interrupted" if number == signal.SIGINT else "terminated"


def quick_to_die() -> None:
    """Until anything is under way, Ctrl-C simply ends the process, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def watch() -> None:
    """Starts the watching thread; for a process that belongs to the command line alone."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="watch", daemon=True).start()


def _watch(reading: int) -> None:
    """Waits for signals; the system writes the number of each, one byte."""
    first = _next(reading)
    threading.Thread(target=_wait, args=(first,), name="grace", daemon=True).start()
    _next(reading)
    leave_at_once(first)


def _next(reading: int) -> int:
    while True:
        (number,) = os.read(reading, 1)
        if number in ENDING:
            return number


def _wait(number: int) -> None:
    time.sleep(_GRACE_S)  # by a clock that nobody can set
    leave_at_once(number)


def leave_at_once(number: int) -> NoReturn:
    """Ends the process without waiting for any thread; its temporary folders are gone."""
    if wait_for_uninterrupted(_MOVING_S):
        remove_living()  # otherwise the next run finds the journal of the move, and undoes it
    with contextlib.suppress(OSError, ValueError):
        os.write(2, f"{words(number)}\n".encode())
    os._exit(SIGNAL_BASE + number)
