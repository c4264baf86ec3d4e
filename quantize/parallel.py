"""Work on many items side by side, with results in the items' order and a bounded number under way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

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


class AheadOfTime(Generic[Item, Result]):
    """A function whose value for one argument can be worked out by the side of something else.

    Where the context that it is ends by an error, that waits for the thread.

    Args:
        work: the function.
        item: the argument that it will probably be asked for.
        wanted: whether `begin` is to do anything.
    """

    def __init__(self, work: Callable[[Item], Result], item: Item, *, wanted: bool) -> None:
        self._work, self._item, self._wanted = work, item, wanted
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
        self._begun: Future[Result] | None = None

    def __enter__(self) -> AheadOfTime[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=error is not None)

    def begin(self) -> None:
        """Begins in a thread; within the context, and once."""
        if self._wanted and self._begun is None:
            self._begun = self._pool.submit(self._work, self._item)

    def __call__(self, item: Item) -> Result:
        """The value: awaited where it was begun for this argument, worked out here where not."""
        if self._begun is None or item != self._item:
            return self._work(item)
        return self._begun.result()
