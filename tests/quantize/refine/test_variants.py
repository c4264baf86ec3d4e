"""Which variant is taken: not surely worse on selection images, and closest on calibration images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantize.refine.judge import Score
from quantize.refine.variants import Outcome, Variant, best_of


def outcome(selection: Any, learnt: float) -> Outcome:
    divergences = np.asarray(selection, dtype=np.float64)
    draft: Any = None  # the choice looks at figures only
    return Outcome(draft, Score(float(divergences.mean()), 1.0, divergences), (), np.full(4, learnt))


NOISE = np.random.default_rng(3).normal(0.010, 0.004, 50).clip(0)


def test_calibration_images_decide_between_those_that_selection_images_cannot_tell_apart() -> None:
    # One image makes the second 6 % worse: less than its standard error.
    spike = NOISE + 0.03 * (np.arange(50) == 7)
    assert spike.mean() > NOISE.mean()
    outcomes = {Variant("a"): outcome(NOISE, 0.005), Variant("b"): outcome(spike, 0.004)}
    assert best_of(outcomes) == Variant("b")


@pytest.mark.parametrize("first", ["a", "b"])
def test_what_is_surely_worse_on_selection_images_is_out(first: str) -> None:
    outcomes = {Variant("a"): outcome(NOISE, 0.005), Variant("b"): outcome(NOISE * 1.3, 0.001)}
    ordered = {variant: outcomes[variant] for variant in sorted(outcomes, key=lambda v: v.rule != first)}
    assert best_of(ordered) == Variant("a")


def test_of_equal_variants_the_first_is_taken() -> None:
    outcomes = {Variant(name): outcome(NOISE, 0.005) for name in ("quantile", "mean", "mse")}
    assert best_of(outcomes) == Variant("quantile")
