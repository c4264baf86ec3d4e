"""Time by operator kind, from ONNX Runtime's profiler and from events made up here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from quantize import profiler
from quantize.errors import EngineError, InputError
from quantize.profiler import by_operator_kind, profile_ms


def event(name: str, kind: str, us: float, **more: Any) -> dict[str, Any]:
    return {"cat": "Node", "name": name, "dur": us, "args": {"op_name": kind}} | more


def test_operators_of_a_kind_add_up_and_calls_give_a_median() -> None:
    calls = [
        [
            event("a_kernel_time", "Conv", first),
            event("b_kernel_time", "Conv", 100),
            event("c_kernel_time", "Add", 5),
        ]
        for first in (9999, 1000, 2000, 90000)  # the first call warms up, the last was interrupted
    ]
    found = by_operator_kind([e for call in calls for e in call], warmup_calls=1)
    assert found == pytest.approx({"Conv": 2.1, "Add": 0.005})
    assert list(found) == ["Conv", "Add"]


def test_other_events_do_not_count() -> None:
    events = [
        event("a_kernel_time", "Conv", 10),
        event("a_fence_before", "Conv", 500),
        event("model_run", "", 700, cat="Session"),
        {"cat": "Session", "name": "session_initialization"},
    ]
    assert by_operator_kind(events, warmup_calls=0) == {"Conv": pytest.approx(0.01)}
    assert by_operator_kind([], warmup_calls=0) == {}


def test_a_real_profile_covers_every_operator_and_leaves_no_file(
    model_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = profile_ms(model_files.qoperator, model_files.images[:1])
    assert {"QLinearConv", "QuantizeLinear", "DequantizeLinear"} <= found.keys()
    assert all(value >= 0 for value in found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_profiled_is_told(model_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nothing\.onnx: does not exist"):
        profile_ms(Path("nothing.onnx"), model_files.images[:1])

    def broken(_: str) -> Any:
        raise ValueError("cut off")

    monkeypatch.setattr(profiler.json, "loads", broken)
    with pytest.raises(EngineError, match="profile cannot be read: cut off"):
        profile_ms(model_files.fp32, model_files.images[:1])
