"""Progress: lines in a log, a bar on a terminal, nothing when not wanted."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from calibration.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def clock(*, step_s: float) -> Callable[[], float]:
    ticks = iter(range(10_000))
    return lambda: next(ticks) * step_s


def test_items_pass_unchanged() -> None:
    assert list(track([3, 1, 2], description="reading", stream=io.StringIO())) == [3, 1, 2]


def test_silent_when_not_enabled(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), description="reading", enabled=False)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_plain_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(range(3), description="reading"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "reading: 3 images"
    assert err.splitlines()[-1].startswith("reading: done 3 images in ")


def test_a_line_about_every_five_seconds() -> None:
    out = io.StringIO()
    list(track(range(10), description="reading", stream=out, clock=clock(step_s=2.0)))
    # One tick an item: the lines are due at 6, 12 and 18 seconds.
    assert out.getvalue().splitlines() == [
        "reading: 10 images",
        "reading: 3/10 images, 0.5 images/s, 14 s left",
        "reading: 6/10 images, 0.5 images/s, 8 s left",
        "reading: 9/10 images, 0.5 images/s, 2 s left",
        "reading: done 10 images in 22.0 s, 0.5 images/s",
    ]


def test_unknown_total_has_no_time_left() -> None:
    out = io.StringIO()
    items: Iterator[int] = iter(range(3))
    list(track(items, description="tuning", unit="trials", stream=out, clock=clock(step_s=5.0)))
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["tuning: started", "tuning: 1 trials, 0.2 trials/s"]


def test_early_stop_is_said() -> None:
    out = io.StringIO()
    tracked = track(range(10), description="reading", stream=out, clock=clock(step_s=0.0))
    next(tracked), next(tracked)
    tracked.close()
    assert out.getvalue().splitlines()[-1] == "reading: stopped after 1/10 images in 0.0 s"


def test_errors_pass_through() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    out = io.StringIO()
    with pytest.raises(OSError, match="gone"):
        list(track(broken(), description="reading", stream=out))
    assert "stopped after 1 images" in out.getvalue()


@pytest.mark.parametrize("total", [None, 5])
def test_terminal_gets_a_bar_with_rate(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    assert list(track(iter(range(5)), description="reading [1/2]", total=total, stream=out)) == list(range(5))
    assert "reading [1/2]" in out.getvalue()
    assert "images/s" in out.getvalue()
    assert f"5/{total or '?'}" in out.getvalue()


def test_terminal_cursor_comes_back_after_an_early_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    tracked = track(range(5), description="reading", stream=out)
    next(tracked)
    tracked.close()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert out.getvalue().rfind(show) > out.getvalue().rfind(hide) >= 0


def test_an_item_may_stand_for_several_units() -> None:
    out = io.StringIO()
    batches = track(
        [4, 4, 2], description="reading", total=10, stream=out, clock=clock(step_s=5.0), count=lambda n: n
    )
    assert list(batches) == [4, 4, 2]
    lines = out.getvalue().splitlines()
    assert lines[1] == "reading: 4/10 images, 0.8 images/s, 8 s left"
    assert lines[-1].startswith("reading: done 10 images in 20.0 s")
    bar = Terminal()
    assert list(track([4, 4, 2], description="reading", total=10, stream=bar, count=lambda n: n)) == [4, 4, 2]
    assert "10/10" in bar.getvalue()
