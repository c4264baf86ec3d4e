"""How a command ends that a signal interrupts, in process; `tests/robustness` does it to real ones."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from quantize.cli import main
from quantize.cli.ending import ENDING

MODULE = sys.modules["quantize.cli.main"]


def swallowed() -> int:
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:
        return 0
    return 0


def turned_into_another() -> int:
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException as error:
        raise ImportError("numpy.core.multiarray failed to import") from error
    return 0


def turned_into_one_of_rust() -> int:
    class PanicException(BaseException):
        pass

    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException as error:
        raise PanicException from error
    return 0


def raised_in_a_destructor() -> int:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    dying = Dying()
    del dying
    return 0


def exited() -> int:
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        sys.exit(0)


@pytest.mark.parametrize(
    "happens", [swallowed, turned_into_another, turned_into_one_of_rust, raised_in_a_destructor, exited]
)
def test_whatever_is_made_of_it_the_command_was_terminated(
    happens: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before: list[Any] = [signal.getsignal(number) for number in ENDING]
    hooks = sys.unraisablehook, threading.excepthook
    monkeypatch.setattr(MODULE, "_run", lambda arguments: happens())
    assert main(["anything"]) == 143
    assert capsys.readouterr().err == "terminated\n"
    assert [signal.getsignal(number) for number in ENDING] == before
    assert (sys.unraisablehook, threading.excepthook) == hooks


def test_other_errors_that_are_no_exceptions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(BaseException):
        pass

    def run(_: list[str]) -> int:
        raise Other

    monkeypatch.setattr(MODULE, "_run", run)
    with pytest.raises(Other):
        main(["anything"])
