"""Finished work by what it depends on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.store import Store
from quantize.work import KIND, Codec, Work

CODEC: Codec[int] = Codec(lambda value: ({"value": value}, {}), lambda values, _: int(values["value"]))


def store(folder: Path) -> Store:
    return Store(folder, limit_bytes=10**7, warn=pytest.fail)


def never() -> int:
    raise AssertionError("was to be reused")


def work(folder: Path, *, reuse: bool = True, **context: Any) -> Work:
    return Work(store(folder), context, reuse=reuse)


def test_what_is_done_once_is_reused(tmp_path: Path) -> None:
    assert work(tmp_path, seed=1).done("a", {"x": [1, "b"]}, lambda: 7, CODEC) == 7
    again = work(tmp_path, seed=1)
    assert again.done("a", {"x": [1, "b"]}, never, CODEC) == 7
    assert again.reused == ["a"]
    assert again.taken() == ["a"]
    assert again.taken() == []


@pytest.mark.parametrize(
    ("name", "facts", "context"),
    [("b", {"x": 1}, {"seed": 1}), ("a", {"x": 2}, {"seed": 1}), ("a", {"x": 1}, {"seed": 2})],
)
def test_whatever_differs_is_another_piece(name: str, facts: Any, context: Any, tmp_path: Path) -> None:
    work(tmp_path, seed=1).done("a", {"x": 1}, lambda: 7, CODEC)
    assert work(tmp_path, **context).done(name, facts, lambda: 8, CODEC) == 8


def test_it_is_kept_and_not_used_unless_asked(tmp_path: Path) -> None:
    work(tmp_path).done("a", {}, lambda: 7, CODEC)
    other = work(tmp_path, reuse=False)
    assert not other.left
    assert other.done("a", {}, lambda: 8, CODEC) == 8
    assert other.left
    assert work(tmp_path).done("a", {}, never, CODEC) == 8


def test_a_piece_that_its_codec_does_not_know_is_done_again(tmp_path: Path) -> None:
    older: Codec[int] = Codec(lambda value: ({"other": value}, {}), lambda values, _: int(values["other"]))
    work(tmp_path).done("a", {}, lambda: 7, older)
    assert work(tmp_path).done("a", {}, lambda: 8, CODEC) == 8


def test_bytes_that_are_no_piece_are_none(tmp_path: Path) -> None:
    work(tmp_path).done("a", {}, lambda: 7, CODEC)
    (entry,) = tmp_path.rglob(f"*.{KIND}")
    store(tmp_path).put(KIND, entry.stem, np.zeros((3, 3), np.float32))
    assert work(tmp_path).done("a", {}, lambda: 8, CODEC) == 8


def test_time_goes_on_as_if_it_had_been_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("quantize.work.time.monotonic", lambda: now)

    def slow() -> int:
        nonlocal now
        now += 30
        return 7

    first = work(tmp_path)
    first.done("outer", {}, lambda: first.done("inner", {}, slow, CODEC), CODEC)
    again = work(tmp_path)
    began = again.clock()
    again.done("inner", {}, never, CODEC)
    assert again.clock() - began == again.saved_s == 30
    again.done("outer", {}, never, CODEC)
    assert again.clock() - began == 60
    # A piece that consists of reused ones is remembered with the time that those took.
    third = work(tmp_path, reuse=True)
    third.done("third", {}, lambda: third.done("inner", {}, never, CODEC), CODEC)
    last = work(tmp_path)
    last.done("third", {}, never, CODEC)
    assert last.saved_s == 30


def test_several_are_made_at_once_and_in_order(tmp_path: Path) -> None:
    work(tmp_path).done("a", {"x": 1}, lambda: 10, CODEC)
    here, prepared = threading.get_ident(), []
    both = threading.Barrier(2)

    def prepare(position: int) -> int:
        assert threading.get_ident() == here
        prepared.append(position)
        return position

    def make(position: int) -> int:
        both.wait(10)  # for the other one
        return position

    facts = [{"x": number} for number in range(3)]
    some = work(tmp_path)
    assert some.done_each("a", facts, prepare, make, CODEC, workers=2) == [0, 10, 2]
    assert prepared == [0, 2] and some.reused == ["a"]
    again = work(tmp_path)
    assert again.done_each("a", facts, lambda _: never(), make, CODEC, workers=2) == [0, 10, 2]
    assert again.reused == ["a", "a", "a"]


def test_those_made_at_once_took_no_longer_than_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("quantize.work.time.monotonic", lambda: now)

    def prepare(position: int) -> int:
        nonlocal now
        now += 20
        return position

    facts = [{"x": number} for number in range(3)]
    work(tmp_path).done_each("a", facts, prepare, lambda position: position, CODEC, workers=1)
    again = work(tmp_path)
    assert again.done_each("a", facts, lambda _: never(), lambda _: 0, CODEC, workers=1) == [0, 1, 2]
    assert again.saved_s == 60


def test_without_a_store_nothing_is_kept() -> None:
    forgotten = Work.forgotten()
    assert forgotten.done("a", {}, lambda: 1, CODEC) == 1
    assert forgotten.done("a", {}, lambda: 2, CODEC) == 2
    assert forgotten.reused == []


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        work(tmp_path).done("a", {}, never, CODEC)
    assert work(tmp_path).done("a", {}, lambda: 7, CODEC) == 7


def test_what_this_run_did_itself_is_not_called_reused(tmp_path: Path) -> None:
    one = work(tmp_path)
    one.done("a", {}, lambda: 7, CODEC)
    assert one.done("a", {}, never, CODEC) == 7
    assert (one.reused, one.saved_s) == ([], 0.0)
