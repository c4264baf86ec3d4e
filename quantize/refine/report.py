"""What refinement says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quantize.refine.judge import Score

Status = Literal["applied", "taken back", "skipped"]


@dataclass(frozen=True)
class PassReport:
    """One pass.

    Attributes:
        name: centre, ranges, scaling, equalize, weights, biases, gain or layout.
        status: applied; taken back, where the selection images were further from fp32 after it; or skipped.
        what: what it changed, or why it was skipped.
        before, after: scores on the selection images; the same where it was skipped.
    """

    name: str
    status: Status
    what: str
    before: Score
    after: Score


@dataclass(frozen=True)
class RefineReport:
    """The refinement of one model.

    Attributes:
        effort: fast or full.
        calibration_images: images that the passes learnt from.
        selection_images: images that they were judged on; in neither calibration nor evaluation.
        rule: the rule for activation ranges that was chosen.
        rules: rule -> KL divergence of its plain integer model, the least first, but before
            it the preferred one of those that tie with it; empty where there was no choice.
        candidates: variant -> KL divergence after all passes.
        candidates_learnt: the same on the calibration images; see `variants` for how both decide.
        passes: of the chosen variant, in order.
        before, after: scores on the selection images, of the model as the engine had it and as it is now.
        duration_s: wall time, in seconds.
    """

    effort: str
    calibration_images: int
    selection_images: int
    rule: str
    rules: Mapping[str, float]
    candidates: Mapping[str, float]
    candidates_learnt: Mapping[str, float]
    passes: tuple[PassReport, ...]
    before: Score
    after: Score
    duration_s: float
