"""Where the time of one call goes, by operator kind, from ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import EngineError
from quantize.scratch import temporary_folder
from quantize.session import make_session, outputs

# Enough for a median that single interruptions do not move; the first calls allocate memory.
_CALLS, _WARMUP_CALLS = 30, 5

# How ONNX Runtime marks the time of a kernel, without that of waiting for its neighbours.
_KERNEL_SUFFIX = "_kernel_time"
_US_PER_MS = 1000.0


def profile_ms(model: Path, image: npt.NDArray[np.float32]) -> dict[str, float]:
    """Measures one call at one thread, operator by operator.

    Args:
        model: an `.onnx` file.
        image: [1, ...] float32; a model of a fixed batch size runs it so many times at once.

    Returns:
        Operator kind as ONNX Runtime runs it -> milliseconds of all its operators in one call, the median
        over several calls each; most expensive first.

    Raises:
        EngineError: ONNX Runtime failed, or wrote no profile that can be read.
    """
    with temporary_folder("profile") as folder:
        session = make_session(model, threads=1, profile_prefix=folder / "profile")
        for _ in range(_WARMUP_CALLS + _CALLS):
            outputs(session, image, model=model.name)
        written = Path(session.end_profiling())
        try:
            events = json.loads(written.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EngineError(f"{model}: ONNX Runtime's profile cannot be read: {error}") from error
    return by_operator_kind(events, warmup_calls=_WARMUP_CALLS)


def by_operator_kind(events: Iterable[Mapping[str, Any]], *, warmup_calls: int) -> dict[str, float]:
    """Sums the events of a profile: per operator the median over the calls, per kind the sum of operators.

    Args:
        events: as ONNX Runtime writes them, `dur` in microseconds.
        warmup_calls: so many first events of each operator do not count.
    """
    durations: defaultdict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL_SUFFIX):
            durations[name].append(float(event["dur"]))
            kinds[name] = str(event["args"]["op_name"])
    total: defaultdict[str, float] = defaultdict(float)
    for name, found in durations.items():
        if counted := found[warmup_calls:]:
            total[kinds[name]] += statistics.median(counted) / _US_PER_MS
    return dict(sorted(total.items(), key=lambda one: one[1], reverse=True))
