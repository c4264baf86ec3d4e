"""Paired intervals: published values, analytic limits, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quantize.errors import EngineError
from quantize.statistics import (
    Interval,
    PairedOutcomes,
    absolute_decline,
    mcnemar_p_value,
    relative_decline,
)

Z2 = 1.959963984540054**2

# Airway hyper-responsiveness of 21 children before and after stem cell transplantation (Bentur et al. 2009),
# the worked example of Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33, 2850-2875, who give
# Tango's interval -0.517 to -0.026 for the difference, Tang's 0.065 to 0.907 for the ratio, both to 3 digits.
BENTUR = PairedOutcomes(both=1, lost=7, won=1, neither=12)


def test_published_difference() -> None:
    interval = absolute_decline(BENTUR)
    assert interval.estimate == pytest.approx(6 / 21)
    assert (round(interval.low, 3), round(interval.high, 3)) == (0.026, 0.517)


def test_published_ratio() -> None:
    interval = relative_decline(BENTUR)
    assert interval.estimate == pytest.approx(0.75)
    assert (round(1 - interval.high, 3), round(1 - interval.low, 3)) == (0.065, 0.907)


def test_published_exact_p_value() -> None:
    # 2 (C(8,0) + C(8,1)) / 2^8 = 18/256
    assert mcnemar_p_value(BENTUR) == 18 / 256


def test_no_discordant_images_has_a_closed_form() -> None:
    outcomes = PairedOutcomes(both=50, lost=0, won=0, neither=50)
    absolute, relative = absolute_decline(outcomes), relative_decline(outcomes)
    # Z = -√(nδ/(1-δ)) = ±z at δ = z²/(n+z²); T = √(m(1-θ)/θ) = z at θ = m/(m+z²), and m/θ by symmetry.
    assert absolute.high == pytest.approx(Z2 / (100 + Z2), rel=1e-9)
    assert absolute.low == pytest.approx(-absolute.high, rel=1e-9)
    assert relative.high == pytest.approx(Z2 / (50 + Z2), rel=1e-9)
    assert relative.low == pytest.approx(-Z2 / 50, rel=1e-9)


def test_everything_lost_has_a_closed_form() -> None:
    # T = -√(θ·lost) = -z at θ = z²/lost
    interval = relative_decline(PairedOutcomes(both=0, lost=5, won=0, neither=50))
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(1 - Z2 / 5, rel=1e-9)


def test_nothing_to_compare_is_undefined() -> None:
    def undefined(interval: Interval) -> bool:
        return all(math.isnan(value) for value in (interval.estimate, interval.low, interval.high))

    assert undefined(absolute_decline(PairedOutcomes(0, 0, 0, 0)))
    assert undefined(relative_decline(PairedOutcomes(0, 0, 0, 0)))
    assert undefined(relative_decline(PairedOutcomes(0, 0, 5, 5)))
    assert mcnemar_p_value(PairedOutcomes(3, 0, 0, 4)) == 1.0


def test_zero_correct_on_both_sides() -> None:
    interval = absolute_decline(PairedOutcomes(0, 0, 0, 40))
    assert interval.estimate == 0.0
    assert interval.high == pytest.approx(Z2 / (40 + Z2), rel=1e-9)


def test_exchanging_the_models_mirrors_the_difference_and_inverts_the_ratio() -> None:
    here, there = PairedOutcomes(60, 9, 3, 28), PairedOutcomes(60, 3, 9, 28)
    difference, mirrored = absolute_decline(here), absolute_decline(there)
    assert (mirrored.low, mirrored.high) == pytest.approx((-difference.high, -difference.low), abs=1e-12)
    ratio, inverse = relative_decline(here), relative_decline(there)
    assert 1 - inverse.low == pytest.approx(1 / (1 - ratio.high), rel=1e-9)
    assert 1 - inverse.high == pytest.approx(1 / (1 - ratio.low), rel=1e-9)


@pytest.mark.parametrize(("lost", "won"), [(10, 2), (9, 2), (8, 2), (7, 2), (1, 1), (4, 0), (3, 0)])
def test_both_exclude_zero_exactly_when_the_score_test_rejects(lost: int, won: int) -> None:
    outcomes = PairedOutcomes(70, lost, won, 20)
    rejects = (lost - won) / math.sqrt(lost + won) > math.sqrt(Z2)
    assert (absolute_decline(outcomes).low > 0) is rejects
    assert (relative_decline(outcomes).low > 0) is rejects


def test_absolute_ends_solve_the_defining_equation_by_brute_force() -> None:
    lost, won, n = 9, 3, 100
    interval = absolute_decline(PairedOutcomes(60, lost, won, 28))
    for delta in (interval.low, interval.high):
        q = np.linspace(max(0.0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9, 400_001)
        likelihood = lost * np.log(q + delta) + won * np.log(q) + (n - lost - won) * np.log(1 - 2 * q - delta)
        best = q[likelihood.argmax()]
        z = (lost - won - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta)))
        assert abs(z) == pytest.approx(math.sqrt(Z2), abs=1e-4)  # the grid is 1e-6 wide


def test_relative_ends_solve_the_defining_equation_by_brute_force() -> None:
    both, lost, won = 60, 9, 3
    interval = relative_decline(PairedOutcomes(both, lost, won, 28))
    for theta in (1 - interval.low, 1 - interval.high):
        s = np.linspace(max(0.0, (theta - 1) / theta) + 1e-9, theta / (1 + theta) - 1e-9, 400_001)
        shares = (theta - (1 + theta) * s, (1 - theta) + theta * s, s)
        best = s[sum(k * np.log(p) for k, p in zip((both, lost, won), shares, strict=True)).argmax()]
        variance = theta * (both + lost + won) * (best + (1 - theta) + theta * best)
        t = ((both + won) - theta * (both + lost)) / math.sqrt(variance)
        assert abs(t) == pytest.approx(math.sqrt(Z2), abs=1e-4)


def test_coverage_is_near_its_promise() -> None:
    # Shares as in a good int8 model on 400 images: few discordant ones, the hard case for normal intervals.
    shares = np.array([0.80, 0.03, 0.02, 0.15])
    truth_absolute, truth_relative = 0.01, 0.01 / 0.83
    tables = np.random.default_rng(2026).multinomial(400, shares, size=1_000)
    covered = np.zeros(2)
    for table in tables:
        outcomes = PairedOutcomes(*(int(count) for count in table))
        absolute, relative = absolute_decline(outcomes), relative_decline(outcomes)
        covered += [
            absolute.low <= truth_absolute <= absolute.high,
            relative.low <= truth_relative <= relative.high,
        ]
    # 1,000 draws know a share of 0.95 to ±0.014 (two standard deviations).
    assert (np.abs(covered / len(tables) - 0.95) < 0.02).all()


def test_wider_confidence_is_a_wider_interval() -> None:
    narrow, wide = absolute_decline(BENTUR, 0.9), absolute_decline(BENTUR, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_p_value_of_many_images_does_not_overflow() -> None:
    assert 0 < mcnemar_p_value(PairedOutcomes(40_000, 3_000, 2_800, 4_200)) < 0.01
    assert mcnemar_p_value(PairedOutcomes(0, 5, 5, 0)) == 1.0


def test_outcomes_from_hits() -> None:
    reference = np.array([True, True, False, False, True])
    model = np.array([True, False, True, False, True])
    outcomes = PairedOutcomes.from_hits(reference, model)
    assert outcomes == PairedOutcomes(both=2, lost=1, won=1, neither=1)
    assert outcomes.images == 5
    with pytest.raises(EngineError, match="paired outcomes"):
        PairedOutcomes.from_hits(reference, model[:3])
