"""How far the work is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Sized
from typing import TextIO, TypeVar

T = TypeVar("T")
Clock = Callable[[], float]

# Plain lines go to logs: often enough to see that it lives, rarely enough to be read.
_LINE_INTERVAL_S = 5.0


def track(
    iterable: Iterable[T],
    *,
    description: str,
    total: int | None = None,
    unit: str = "images",
    enabled: bool = True,
    stream: TextIO | None = None,
    clock: Clock = time.monotonic,
    count: Callable[[T], int] | None = None,
) -> Generator[T, None, None]:
    """Passes items on and reports how many have passed, how fast, and how long it will take.

    On a terminal that is a bar. Elsewhere it is a line at the start, one about every five seconds, and one at
    the end, which says so when the consumer stopped early. Nothing is printed when not enabled.

    Args:
        iterable: what to pass on, unchanged and in order.
        description: what is being done, a few words.
        total: how many items there will be; `len(iterable)` where it has one and this is not given.
        unit: what the items are called.
        enabled: whether anything is shown.
        stream: where to write; standard error at the time of the first item when not given.
        clock: seconds that never go back; tests give their own.
        count: item -> how many units it stands for, for example the images of a batch; 1 when not given.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if not enabled:
        yield from iterable
        return
    out = sys.stderr if stream is None else stream
    if out.isatty():
        yield from _bar(iterable, description, total, unit, out, count=count or _one)
    else:
        yield from _lines(_Lines(description, total, unit, out, clock), iterable, count or _one)


def _one(_: object) -> int:
    return 1


class _Lines:
    """Writes the plain lines; knows when the next one is due."""

    def __init__(self, description: str, total: int | None, unit: str, out: TextIO, clock: Clock) -> None:
        self._what = f"{description}: "
        self._of_total = f"/{total}" if total is not None else ""
        self._total = total
        self._unit = unit
        self._out = out
        self._clock = clock
        self._start_s = self._last_s = clock()
        self.done_count = 0

    def write(self, text: str) -> None:
        print(f"{self._what}{text}", file=self._out, flush=True)

    def start(self) -> None:
        self.write(f"{self._total} {self._unit}" if self._total is not None else "started")

    def advance(self, count: int) -> None:
        self.done_count += count
        now_s = self._clock()
        if now_s - self._last_s >= _LINE_INTERVAL_S:
            self._last_s = now_s
            rate = self.done_count / (now_s - self._start_s)
            left = f", {(self._total - self.done_count) / rate:.0f} s left" if self._total is not None else ""
            self.write(f"{self.done_count}{self._of_total} {self._unit}, {rate:.1f} {self._unit}/s{left}")

    def finish(self, *, complete: bool) -> None:
        elapsed_s = self._clock() - self._start_s
        rate = f", {self.done_count / elapsed_s:.1f} {self._unit}/s" if elapsed_s > 0 else ""
        of_total = "" if complete else self._of_total
        how = "done" if complete else "stopped after"
        self.write(f"{how} {self.done_count}{of_total} {self._unit} in {elapsed_s:.1f} s{rate}")


def _lines(lines: _Lines, iterable: Iterable[T], count: Callable[[T], int]) -> Generator[T, None, None]:
    lines.start()
    complete = False
    try:
        for item in iterable:
            yield item
            lines.advance(count(item))
        complete = True
    finally:
        lines.finish(complete=complete)


def _bar(
    iterable: Iterable[T],
    description: str,
    total: int | None,
    unit: str,
    out: TextIO,
    *,
    count: Callable[[T], int],
) -> Generator[T, None, None]:
    # Imported here: rich takes a tenth of a second that plain output need not pay.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(
                f"{speed:.1f} {unit}/s" if speed is not None else f"- {unit}/s", style="progress.data.speed"
            )

    text, left = (
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    columns = (text, BarColumn(), MofNCompleteColumn(), Rate(), left)
    with Progress(*columns, console=Console(file=out)) as progress:
        task_id = progress.add_task(description, total=total)
        for item in iterable:
            yield item
            progress.advance(task_id, count(item))
