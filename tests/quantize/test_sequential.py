"""The test that abandons trials keeps its promise, and is worth having."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from quantize.criterion import Criterion
from quantize.sequential import Sequential

COUNT = 2000
RIGHT = 1440  # of fp32: 72 %


def outcomes(lost: int, won: int, seed: int) -> tuple[Any, Any]:
    """Fp32's and a trial's hits on all images, in random order."""
    baseline = np.arange(COUNT) < RIGHT
    trial = baseline.copy()
    trial[:lost], trial[RIGHT : RIGHT + won] = False, True
    order = np.random.default_rng(seed).permutation(COUNT)
    return baseline[order], trial[order]


def run(lost: int, won: int, seed: int, criterion: Criterion, error_fraction: float) -> tuple[bool, int]:
    """Whether the trial was abandoned, and how many images that took."""
    baseline, trial = outcomes(lost, won, seed)
    test = Sequential(baseline, criterion, error_fraction=error_fraction)
    for start in range(0, COUNT, 20):
        if test.add(trial[start : start + 20]):
            return True, test.seen
    return False, test.seen


ABSOLUTE, RELATIVE = Criterion("absolute", 0.01), Criterion("relative", 0.01 / 0.72)


# Of fp32's 72 % both allow the same, and so the same would be drawn again for every pair.
@pytest.mark.parametrize(
    ("lost", "won", "criterion"),
    [(60, 40, ABSOLUTE), (60, 40, RELATIVE), (21, 1, ABSOLUTE), (220, 200, RELATIVE)],
)
def test_trials_that_just_meet_the_criterion_are_rarely_abandoned(
    lost: int, won: int, criterion: Criterion
) -> None:
    assert criterion.met(0.72, 0.72 - (lost - won) / COUNT)
    runs, error = 200, 0.1
    abandoned = sum(run(lost, won, seed, criterion, error)[0] for seed in range(runs))
    # The bound is on the probability; the count may exceed it by three standard deviations.
    assert abandoned <= runs * error + 3 * math.sqrt(runs * error * (1 - error))


def test_the_bound_is_not_kept_by_never_abandoning() -> None:
    found = [run(260, 40, seed, Criterion("absolute", 0.01), 0.001) for seed in range(20)]
    assert all(abandoned for abandoned, _ in found)
    assert np.median([seen for _, seen in found]) < COUNT / 4
    barely = [run(100, 40, seed, Criterion("absolute", 0.01), 0.001) for seed in range(20)]
    assert np.median([seen for _, seen in barely]) < COUNT


def test_what_can_no_longer_be_met_is_certain_without_any_confidence() -> None:
    baseline = np.ones(10, np.bool_)
    test = Sequential(baseline, Criterion("absolute", 0.0), error_fraction=1e-300)
    assert not test.add(np.ones(8, np.bool_))
    assert not test.add(np.array([False]))  # the last image could still be won, if only by another fp32
    assert test.add(np.array([False]))


def test_a_trial_that_meets_the_criterion_exactly_is_judged_on_everything() -> None:
    baseline = np.ones(100, np.bool_)
    trial = baseline.copy()
    trial[-5:] = False
    test = Sequential(baseline, Criterion("relative", 0.05), error_fraction=0.001)
    assert not any(test.add(trial[start : start + 10]) for start in range(0, 100, 10))
    assert test.seen == 100
    assert test.decline == pytest.approx(0.05)


def test_the_capital_is_the_average_of_its_bets() -> None:
    """Against a direct computation of the product in the docstring."""
    baseline, trial = outcomes(300, 20, seed=1)
    criterion = Criterion("absolute", 0.01)
    test = Sequential(baseline, criterion, error_fraction=1e-9)
    test.add(trial[:150])
    from quantize.sequential import _BETS, _BOLDEST_FRACTION

    capitals, total = [1.0] * len(_BETS), 0
    for seen, (right, hit) in enumerate(zip(baseline[:150], trial[:150], strict=True)):
        expected = (0.01 * COUNT - total) / (COUNT - seen)
        x = int(right) - int(hit)
        for number, bet in enumerate(_BETS):
            capitals[number] *= 1 + min(bet, _BOLDEST_FRACTION / (1 + expected)) * (x - expected)
        total += x
    assert math.exp(test.log_capital) == pytest.approx(np.mean(capitals), rel=1e-9)
