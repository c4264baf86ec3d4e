"""What accuracy the user accepts to lose, and the test of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Criterion"]

# 0.80 - 0.79 > 0.01 in binary floating point. Accuracies are counts divided by image counts, so two different
# ones are at least 1/N apart (1/50000 on ImageNet's validation set): this slack can never hide a lost image.
_ROUNDING_SLACK = 1e-12


@dataclass(frozen=True)
class Criterion:
    """The most accuracy that may be lost between the fp32 and the int8 model.

    With `b` the fp32 and `v` the int8 accuracy (both fractions in [0, 1]), the decline is `(b - v) / b` when
    relative and `b - v` when absolute, as Neural Compressor's accuracy objective defines them; the criterion
    holds when the decline is at most `tolerance`.

    Attributes:
        kind: how the decline is measured.
        tolerance: the largest accepted decline, a fraction in [0, 1): 0.01 is one per cent when relative and
            one percentage point when absolute.
        metric: the accuracy that is compared.
    """

    kind: Literal["relative", "absolute"] = "relative"
    tolerance: float = 0.01
    metric: Literal["top1", "top5"] = "top1"

    def __post_init__(self) -> None:
        """Refuse a tolerance that no accuracy could be held against."""
        if not (math.isfinite(self.tolerance) and 0.0 <= self.tolerance < 1.0):
            raise ValueError(f"tolerance must be a fraction in [0, 1), got {self.tolerance!r}")

    def decline(self, baseline: float, value: float) -> float:
        """How much of the baseline was lost; negative where something was gained.

        A baseline of 0 has nothing to lose: its relative decline is 0 by definition.
        """
        if self.kind == "absolute":
            return baseline - value
        return (baseline - value) / baseline if baseline else 0.0

    def met(self, baseline: float, value: float) -> bool:
        """Whether `value` loses no more than tolerated. False when either accuracy is NaN."""
        if math.isnan(baseline) or math.isnan(value):
            return False
        return self.decline(baseline, value) <= self.tolerance + _ROUNDING_SLACK

    def lowest_accepted(self, baseline: float) -> float:
        """The smallest accuracy, a fraction, that still meets the criterion."""
        if self.kind == "absolute":
            return baseline - self.tolerance
        return baseline * (1.0 - self.tolerance)

    @property
    def metric_label(self) -> str:
        """The metric as people write it: `top-1` or `top-5`."""
        return "top-1" if self.metric == "top1" else "top-5"

    def __str__(self) -> str:
        """The criterion in words, for tables and verdicts."""
        unit = "%" if self.kind == "relative" else "percentage points"
        return f"{self.kind} decline of {self.metric_label} at most {100 * self.tolerance:.6g} {unit}"
