"""Ahead of the consumer, in order, and never farther than asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from calibration.ahead import worked_ahead


def threads_alive() -> int:
    return sum(thread.name.startswith("ahead-test") for thread in threading.enumerate())


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_are_taken_beside_those_passed_on(workers: int, ahead: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    results = worked_ahead(lambda n: n * n, items(), workers=workers, ahead=ahead, name="ahead-test")
    for passed, result in enumerate(results):
        assert result == passed**2
        assert len(taken) == min(passed + 1 + ahead, 20)
    assert len(taken) == 20
    assert threads_alive() == 0


def test_work_is_done_by_other_threads_even_by_one() -> None:
    names = set(
        worked_ahead(
            lambda _: threading.current_thread().name, range(9), workers=1, ahead=2, name="ahead-test"
        )
    )
    assert len(names) == 1
    assert names.pop().startswith("ahead-test")


def test_closing_it_early_ends_the_threads() -> None:
    results = worked_ahead(lambda n: n, range(50), workers=3, ahead=5, name="ahead-test")
    assert threads_alive() == 0  # nothing begins before the first result is asked for
    assert next(results) == 0
    assert threads_alive() > 0
    results.close()
    assert threads_alive() == 0
