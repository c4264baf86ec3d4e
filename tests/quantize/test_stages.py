"""Stages are timed in order, and quiet is quiet."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from quantize import stages as module
from quantize.stages import Stages, peak_memory_bytes


def test_times_add_up_in_the_order_of_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 20.0, 22.0, 30.0, 34.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    stages = Stages("quiet")
    with stages.stage("read"):
        pass
    with pytest.raises(ValueError, match="broken"), stages.stage("tune"):
        raise ValueError("broken")
    with stages.stage("read"):
        pass
    assert list(stages.times_s.items()) == [("read", 5.0), ("tune", 2.0)]


@pytest.mark.parametrize(("verbosity", "shown"), [("quiet", False), ("normal", True), ("verbose", True)])
def test_lines_go_to_standard_error(verbosity: Any, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    stages = Stages(verbosity)
    stages.say("working")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "working\n" if shown else "")
    assert stages.shown is shown


def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python alone takes more than 5 MB; in KiB by mistake it would be some 100,000 "bytes".
    assert 5e6 < peak_memory_bytes() < 1e12
    monkeypatch.setattr(sys, "platform", "darwin")
    here = module.resource.getrusage(module.resource.RUSAGE_SELF).ru_maxrss
    assert peak_memory_bytes() >= here
