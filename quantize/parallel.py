"""Work on many items side by side, with results in the items' order and a bounded number under way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from calibration.ahead import worked_ahead

Item = TypeVar("Item")
Result = TypeVar("Result")

# One item per worker that waits behind the one in work: nobody idles while the results are taken.
_QUEUED_PER_WORKER = 2


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Yields `work(item)` for every item, in order; an error of one ends it all.

    With one worker everything happens in the caller's thread. Items are taken only as results are: what is
    under way, and with it memory, does not grow with their number.
    """
    if workers <= 1:
        for item in items:
            yield work(item)
        return
    ahead = workers * _QUEUED_PER_WORKER - 1  # beside the one whose result is awaited
    yield from worked_ahead(work, items, workers=workers, ahead=ahead, name="quantize")
