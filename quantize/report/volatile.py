"""Which values of `report.json` may differ between two runs of the same inputs, seed and versions.

Everything else is the same, byte for byte, and so are the models: whatever the number of threads, the order
in which folders are listed, the locale, the time zone, hash seeds, the working directory, and the features of
the CPU. (What ONNX Runtime's float kernels compute can depend on the CPU in the last bits: see
`scripts/same_bytes_on_avx2.py`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Measured times and memory. `*` stands for any key, or any position of a list.
TIMES = (
    "models.fp32.latency.median_ms",
    "models.fp32.latency.p90_ms",
    "models.fp32.latency.p99_ms",
    "models.fp32.profile_ms",
    "models.int8.*.latency.median_ms",
    "models.int8.*.latency.p90_ms",
    "models.int8.*.latency.p99_ms",
    "models.int8.*.profile_ms",
    "models.int8.*.speed_up",
    "run.peak_memory_bytes",
    "run.stages.*.images_per_s",
    "run.stages.*.peak_memory_bytes",
    "run.stages.*.wall_s",
    "run.started_at",
    "throughput.images_per_s",
    "throughput.ratios",
    "throughput.rounds",
    "tuning.refinement.duration_s",
    "tuning.trials.*.duration_s",
)

# What tells two runs apart although their inputs are the same: where and how they were started,
# and what an earlier run had left for them.
PLACES = (
    "images.calibration.source",
    "images.evaluation.source",
    "images.selection.source",
    "models.fp32.path",
    "models.int8.*.path",
    "run.command",
    "run.configuration.threads",
    "run.input_model.path",
    "run.configuration.tuning.resume",
    "run.platform",
    "run.reused",
)

VOLATILE = (*TIMES, *PLACES)


def steady(report: Mapping[str, Any], patterns: Sequence[str] = VOLATILE) -> dict[str, Any]:
    """A copy of a report in which the values that may differ are None; keys stay."""
    return dict(_without(report, [tuple(pattern.split(".")) for pattern in patterns]))


def _without(value: Any, patterns: Sequence[tuple[str, ...]]) -> Any:
    if any(not pattern for pattern in patterns):
        return None
    if isinstance(value, Mapping):
        return {key: _without(item, _behind(patterns, str(key))) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without(item, _behind(patterns, None)) for item in value]
    return value


def _behind(patterns: Sequence[tuple[str, ...]], key: str | None) -> list[tuple[str, ...]]:
    """What is left of the patterns whose first part is this key, or any; None is a position of a list."""
    return [pattern[1:] for pattern in patterns if pattern[0] in ("*", key)]
