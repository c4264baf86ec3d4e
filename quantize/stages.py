"""Times the stages of a run, and says on standard error what is going on."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from typing import Literal

from quantize.printable import printable

Verbosity = Literal["quiet", "normal", "verbose"]


class Stages:
    """Wall time by stage, in the order in which they first began.

    Attributes:
        times_s: stage -> seconds.
        images: stage -> images that passed through, where there were any.
        peaks_bytes: stage -> the most memory that the process had taken when it ended.
        problems: what did not work, and the run went on without.
        verbosity: "quiet" prints nothing.
    """

    def __init__(self, verbosity: Verbosity) -> None:
        self.times_s: dict[str, float] = {}
        self.images: dict[str, int] = {}
        self.peaks_bytes: dict[str, int] = {}
        self.problems: list[str] = []
        self.verbosity = verbosity

    @property
    def shown(self) -> bool:
        """Whether progress is shown."""
        return self.verbosity != "quiet"

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.times_s[name] = self.times_s.get(name, 0.0) + time.perf_counter() - began_s
            self.peaks_bytes[name] = peak_memory_bytes()

    def count_images(self, name: str, count: int) -> None:
        """Notes that so many images passed through in a stage."""
        self.images[name] = self.images.get(name, 0) + count

    def warn(self, problem: str) -> None:
        """Says that something did not work that the run can do without, and keeps it for the report."""
        self.problems.append(problem)
        self.say(f"warning: {problem}")

    def say(self, text: str) -> None:
        """One line for a person who watches; never part of the result."""
        if self.shown:
            print(printable(text), file=sys.stderr, flush=True)


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident; `ru_maxrss` counts KiB on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
