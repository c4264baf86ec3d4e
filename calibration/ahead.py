"""Work on many items by several threads, ahead of whoever takes the results, but never far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worked_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int, name: str
) -> Generator[Result, None, None]:
    """Yields `work(item)` for every item, in their order; an error of one ends it all.

    The threads end with the iteration, also when the consumer closes it early: that waits for the items in
    work only.

    Args:
        work: what is done, by any of the threads.
        items: taken only as results are: what is under way, and with it memory, does not grow with their
            number.
        workers: number of threads.
        ahead: items in work or done whose turn has not come, while the consumer has a result.
        name: what the names of the threads begin with.
    """
    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) > ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
