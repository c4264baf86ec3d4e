"""Steps that a signal must not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from calibration import interrupts
from calibration.interrupts import uninterrupted, wait_for_uninterrupted


@pytest.fixture
def listening() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_a_signal_waits_for_the_end() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        steps.append("done")
    assert steps == ["done"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("listening")
def test_a_signal_is_not_lost_when_the_step_fails() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise OSError("disk full")
    assert isinstance(caught.value.__context__, OSError)


@pytest.mark.usefixtures("listening")
def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_whoever_ends_the_process_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_held", threading.RLock())  # whoever waits keeps it for good
    inside, may_end, steps = threading.Event(), threading.Event(), []

    def step() -> None:
        with uninterrupted():
            inside.set()
            assert may_end.wait(60)
            steps.append("step")

    def end() -> None:
        assert wait_for_uninterrupted(60)
        steps.append("end")
        with uninterrupted():  # this thread holds it
            pass

    first, second = threading.Thread(target=step), threading.Thread(target=end, daemon=True)
    first.start()
    assert inside.wait(60)
    second.start()
    may_end.set()
    first.join()
    second.join()
    assert steps == ["step", "end"]
    assert not wait_for_uninterrupted(0)
