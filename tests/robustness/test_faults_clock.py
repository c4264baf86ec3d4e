"""Clocks that are set back or forth while the program runs, and files from the future."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import quantize
from calibration.store import Store
from quantize.benchmark import benchmark
from quantize.diagnose.options import ReportOptions

_DAY_S = 86_400.0
# No page looks at the clock, and they take most of a small run's time.
BRIEF = ReportOptions(pages=False)


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every look at the wall clock finds it a day earlier than the one before."""
    real, looks = time.time, 0

    def seconds() -> float:
        nonlocal looks
        looks += 1
        return real() - looks * _DAY_S

    monkeypatch.setattr(time, "time", seconds)
    monkeypatch.setattr(time, "time_ns", lambda: int(seconds() * 1e9))
    yield


@pytest.mark.robustness(
    "Faults",
    "the clock is set back a day at every look while a search with a time limit runs",
    "the limit holds, no time in the report is negative, and the models are the same",
)
@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_search_while_the_clock_goes_back(
    timeout: float, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"refine.effort": "none", "cache.dir": tmp_path / "cache"}
    limited = {**overrides, "tuning.exit_policy.timeout": timeout}
    before = quantize.tune(
        tiny / "net.onnx", tiny / "c.yaml", tmp_path / "a", overrides=overrides, report=BRIEF
    )
    looks = 0

    def seconds() -> float:
        nonlocal looks
        looks += 1
        return 1e9 - looks * _DAY_S

    monkeypatch.setattr(time, "time", seconds)
    monkeypatch.setattr(time, "time_ns", lambda: int(seconds() * 1e9))
    result = quantize.tune(
        tiny / "net.onnx", tiny / "c.yaml", tmp_path / "b", overrides=limited, report=BRIEF
    )
    assert looks > 0
    trials = result.report["tuning"]["trials"]
    assert all(trial["duration_s"] >= 0 for trial in trials)
    assert all(stage["wall_s"] >= 0 for stage in result.report["run"]["stages"])
    # One trial is always finished, and after it the time is up.
    assert len(trials) == 1
    assert result.report["tuning"]["stopped_by"] == ("timeout" if timeout else "criterion")
    for kind, path in result.models.items():
        # The limit is part of the configuration, whose hash is in the file.
        assert timeout or path.read_bytes() == before.models[kind].read_bytes()


@pytest.mark.usefixtures("backwards")
@pytest.mark.robustness(
    "Faults",
    "the clock is set back a day at every look while a benchmark runs",
    "throughput and latencies are positive",
)
def test_a_benchmark_while_the_clock_goes_back(tiny: Path) -> None:
    found = benchmark(tiny / "net.onnx", np.zeros((1, 3, 8, 8), np.float32), iterations=5, warmup=0)
    assert found.throughput_images_per_s > 0
    assert found.latency.median_ms > 0


@pytest.mark.robustness(
    "Faults",
    "entries of the cache are from the future, because the clock was set back",
    "they are used, count as old from then on, and make room when it is needed",
)
def test_entries_from_the_future(tmp_path: Path) -> None:
    value = np.zeros(1000, np.uint8)
    entry = 128 + len(value)
    keys = [f"{number:02x}{number:062x}" for number in range(20)]
    earlier = Store(tmp_path, limit_bytes=10 * entry, warn=pytest.fail)
    future = time.time() + 365 * _DAY_S
    for key in keys[:9]:
        earlier.put("pixels", key, value)
        os.utime(tmp_path / key[:2] / f"{key}.pixels", (future, future))
    store = Store(tmp_path, limit_bytes=10 * entry, warn=pytest.fail)
    assert store.get("pixels", keys[0]) is not None
    assert (tmp_path / keys[0][:2] / f"{keys[0]}.pixels").stat().st_mtime < future
    for key in keys[10:14]:
        store.put("pixels", key, value)
    there = [key for key in keys if store.get("pixels", key) is not None]
    assert set(there) >= {keys[0], *keys[10:14]}, "what this run uses stays"
    assert store.usage().total_bytes <= 10 * entry
