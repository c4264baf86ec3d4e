"""Side by side, in order, bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from quantize.parallel import AheadOfTime, in_order


def workers_alive() -> int:
    return sum(thread.name.startswith("quantize") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    first = threading.Event()

    def work(item: int) -> int:
        if item == 0 and workers > 1:
            assert first.wait(10)  # until a later item is done
        if item == 1:
            first.set()
        return item * item

    assert list(in_order(work, range(30), workers=workers)) == [n * n for n in range(30)]


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_taken_only_as_results_are(workers: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda item: item, items(), workers=workers)
    for count in range(1, 20):
        next(results)
        assert len(taken) <= count + 2 * workers
    results.close()
    assert workers_alive() == 0


def test_an_error_ends_it_and_its_threads() -> None:
    def work(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        return item

    seen = []
    with pytest.raises(ValueError, match="five"):
        for result in in_order(work, range(50), workers=3):
            seen.append(result)
    assert seen == [0, 1, 2, 3, 4]
    assert workers_alive() == 0


def test_what_was_begun_ahead_of_time_is_awaited() -> None:
    threads = []

    def work(item: int) -> int:
        threads.append(threading.get_ident())
        return item * item

    ahead = AheadOfTime(work, 3, wanted=True)
    with ahead as found:
        ahead.begin()
        ahead.begin()
    assert found(3) == found(3) == 9
    assert len(threads) == 1 and threads[0] != threading.get_ident()
    assert found(4) == 16  # it was not begun
    assert threads[1:] == [threading.get_ident()]


def test_what_is_not_wanted_ahead_of_time_is_done_when_asked_for() -> None:
    threads = []
    ahead = AheadOfTime(lambda item: threads.append(threading.get_ident()), 3, wanted=False)
    with ahead as found:
        ahead.begin()
    assert threads == []
    found(3)
    assert threads == [threading.get_ident()]


def test_an_error_ahead_of_time_comes_when_asked_for() -> None:
    ahead = AheadOfTime(lambda item: 1 // item, 0, wanted=True)
    with ahead as found:
        ahead.begin()
    with pytest.raises(ZeroDivisionError):
        found(0)


def test_another_error_waits_for_what_was_begun() -> None:
    go, done = threading.Event(), []

    def work(item: int) -> None:
        go.wait(10)
        done.append(item)

    ahead = AheadOfTime(work, 3, wanted=True)
    with pytest.raises(KeyError), ahead:
        ahead.begin()
        threading.Timer(0.05, go.set).start()
        raise KeyError
    assert done == [3]
