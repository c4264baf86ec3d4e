"""Throughput in batches: who is called with what, in which order, and what is made of the times."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnx
import pytest

from quantize import throughput as module
from quantize.errors import InputError
from quantize.session import make_session
from quantize.throughput import BATCH_SIZE, interleaved_throughput


class Clock:
    """Stands in for the stopwatch: every call of a model takes as long as the model is said to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, durations_s: dict[str, float]) -> None:
        self.now_s = 100.0
        self.calls: list[tuple[str, tuple[int, ...]]] = []

        def outputs(_: Any, batch: Any, *, model: str) -> Any:
            self.calls.append((model, batch.shape))
            # The first call of a model also allocates.
            first = [name for name, _ in self.calls].count(model) == 1
            self.now_s += durations_s[model] * (2 if first else 1)

        monkeypatch.setattr(module, "outputs", outputs)
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now_s)


@pytest.fixture(scope="module")
def sessions(make_classifier: Any) -> dict[str, Any]:
    return {name: make_session(make_classifier(), threads=1) for name in ("fp32", "int8")}


IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


def test_rates_and_ratios(sessions: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, {"fp32": 0.2, "int8": 0.05})
    found = interleaved_throughput(sessions, IMAGE, budget_s=10.0)
    assert (found.batch_size, found.fixed_batch, found.rounds) == (BATCH_SIZE, False, 5)
    # The slow first calls do not count.
    assert found.images_per_s == pytest.approx({"fp32": 160.0, "int8": 640.0})
    assert found.ratios == pytest.approx({"fp32": 1.0, "int8": 4.0})
    assert {shape for _, shape in clock.calls} == {(32, 3, 8, 8)}
    assert "".join(name[0] for name, _ in clock.calls[:8]) == "fi" + "fiiffi"


@pytest.mark.parametrize(
    ("seconds", "rounds"),
    [(0.1, 5), (0.3, 3), (0.45, 2), (0.6, 1), (30.0, 1)],
)
def test_no_round_is_begun_that_does_not_fit_the_budget(
    seconds: float, rounds: int, sessions: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, {"fp32": seconds, "int8": seconds})
    found = interleaved_throughput(sessions, IMAGE, budget_s=2.0)
    assert [name for name, _ in clock.calls].count("fp32") == 1 + rounds
    assert found.rounds == rounds
    # The first call, which took twice as long, never counts.
    assert found.images_per_s["fp32"] == pytest.approx(32 / seconds)


def test_calls_before_the_clock_go_on_side_by_side_and_timed_ones_alone(
    sessions: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, under_way, most, done = threading.Barrier(2, timeout=30), [], [], []

    def outputs(_: Any, batch: Any, *, model: str) -> Any:
        under_way.append(model)
        most.append(len(under_way))
        if len(done) < 2 and len(most) <= 2:
            together.wait()  # both models have to be here at once
        under_way.remove(model)
        done.append(model)

    monkeypatch.setattr(module, "outputs", outputs)
    interleaved_throughput(sessions, IMAGE, workers=2)
    assert max(most[:2]) == 2
    assert set(most[2:]) == {1}
    assert len(done) == 2 * (1 + 5)


def test_a_model_with_a_batch_of_its_own(make_classifier: Any) -> None:
    fixed = make_classifier(batch=3)
    sessions = {name: make_session(fixed, threads=1) for name in ("fp32", "int8")}
    found = interleaved_throughput(sessions, IMAGE)
    assert (found.batch_size, found.fixed_batch) == (3, True)
    assert min(found.images_per_s.values()) > 0


def test_real_calls(sessions: dict[str, Any]) -> None:
    found = interleaved_throughput(sessions, IMAGE)
    assert list(found.images_per_s) == ["fp32", "int8"]
    assert min(*found.images_per_s.values(), *found.ratios.values()) > 0
    assert found.ratios["fp32"] == 1.0


def test_models_that_cannot_be_compared(make_classifier: Any) -> None:
    models: dict[str, onnx.ModelProto] = {str(n): make_classifier(batch=n) for n in (2, 3)}
    with pytest.raises(InputError, match=r"2 models that take batches of \[2, 3\]"):
        interleaved_throughput({n: make_session(m, threads=1) for n, m in models.items()}, IMAGE)
    with pytest.raises(InputError, match="0 models"):
        interleaved_throughput({}, IMAGE)
