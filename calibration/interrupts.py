"""Steps that a signal must not cut in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# What people and systems end a program by.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# Held while such a step goes on; whoever ends the process at once waits for it.
_held = threading.RLock()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that end a program wait until the block is left, and then do what they would have done.

    Only the main thread is ever interrupted by signals; in another one this does nothing but hold `_held`.
    """
    with _held:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        waiting: list[int] = []

        def note(number: int, _: FrameType | None) -> None:
            waiting.append(number)

        before: dict[int, Any] = {}
        try:
            for number in ENDING:
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    before[number] = handler
                    signal.signal(number, note)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for number in waiting[:1]:
                if callable(before[number]):
                    before[number](number, None)
                else:
                    signal.raise_signal(number)


def wait_for_uninterrupted(timeout_s: float) -> bool:
    """Waits until no such step goes on and lets none begin after it; False if it takes longer than this."""
    return _held.acquire(timeout=timeout_s)
