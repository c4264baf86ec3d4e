"""Metrics, paired statistics and the sequential test, against exact arithmetic and exact binomials."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantize.criterion import Criterion
from quantize.diagnose.signal import decibel
from quantize.metrics import (
    TOP_K,
    Counts,
    Equality,
    Fidelity,
    NonFiniteError,
    check_finite,
    check_labels,
    count_ties,
    divergences,
    guessing_accuracy,
    label_ranks,
    log_probabilities,
)
from quantize.sequential import Sequential
from quantize.statistics import PairedOutcomes, absolute_decline, mcnemar_p_value, relative_decline
from tests.robustness.covering import FINITE, arrays, covers

LOGITS = st.one_of(
    arrays(3, 7),
    arrays(3, 7, elements=st.sampled_from([-1.0, 0.0, 1.0])),
    arrays(3, 7, elements=st.one_of(FINITE, st.just(-np.inf))),
)
LABELS = hnp.arrays(np.int64, 3, elements=st.integers(0, 6))


@covers(
    "quantize.metrics.label_ranks",
    "quantize.metrics.count_ties",
    "quantize.metrics.check_labels",
    "quantize.metrics.Counts.from_logits",
    "quantize.metrics.Counts.from_hits",
    "quantize.metrics.Counts.merge",
    "quantize.metrics.Counts.top1",
    "quantize.metrics.Counts.top5",
    does="ranks are those of a stable sort, counts add up image by image, ties are counted",
)
@given(logits=LOGITS, labels=LABELS)
def test_ranks_and_counts(logits: Any, labels: Any) -> None:
    check_labels(labels, 7, "m")
    ranks = label_ranks(logits, labels)
    for row, label, rank in zip(logits.tolist(), labels.tolist(), ranks.tolist(), strict=True):
        assert sorted(range(7), key=lambda c: (-row[c], c)).index(label) == rank
    ties = sum(row.count(max(row)) > 1 for row in logits.tolist())
    assert count_ties(logits) == ties
    whole = Counts.from_logits(logits, labels)
    assert whole == Counts(3, int((ranks == 0).sum()), int((ranks < TOP_K).sum()), ties)
    parts = [Counts.from_logits(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert parts[0].merge(parts[1]).merge(parts[2]) == whole == Counts.empty().merge(whole)
    assert whole.top1 == whole.top1_correct / 3 <= whole.top5


@covers(
    "quantize.metrics.log_probabilities",
    does="probabilities lie in [1.2e-38, 1] and add up to 1; one number added to all scores changes none",
)
@given(logits=LOGITS, shift=st.floats(-1e3, 1e3, width=16))
def test_probabilities(logits: Any, shift: float) -> None:
    if np.isneginf(logits).all(axis=1).any():
        return
    found = log_probabilities(logits, probabilities=False)
    assert np.all((found <= 1e-12) & (found >= math.log(1.17e-38)))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-9)
    moved = log_probabilities(logits.astype(np.float64) + shift, probabilities=False)
    spread = np.abs(np.where(np.isfinite(logits), logits, 0)).max()
    np.testing.assert_allclose(moved, found, atol=1e-9 + 1e-12 * float(spread))
    again = log_probabilities(np.exp(found), probabilities=True)
    np.testing.assert_allclose(again, found, atol=1e-6)


@covers(
    "quantize.metrics.divergences",
    "quantize.metrics.Fidelity.from_logits",
    "quantize.metrics.Fidelity.merge",
    "quantize.metrics.Fidelity.agreement",
    "quantize.metrics.Fidelity.kl",
    does="KL is finite, at least 0 (Gibbs), 0 for equal scores, and adds up image by image",
)
@given(reference=LOGITS, candidate=LOGITS)
def test_divergences(reference: Any, candidate: Any) -> None:
    rows = [np.isneginf(one).all(axis=1).any() for one in (reference, candidate)]
    if any(rows):
        return
    found = divergences(reference, candidate)
    # The floor of probabilities takes at most 7 · 1.2e-38 from Gibbs' inequality; the rest is rounding.
    assert np.all(np.isfinite(found)) and np.all(found >= -1e-12)
    assert np.all(np.abs(divergences(reference, reference)) == 0.0)
    whole = Fidelity.from_logits(reference, candidate)
    parts = [Fidelity.from_logits(reference[i : i + 1], candidate[i : i + 1]) for i in range(3)]
    added = parts[0].merge(parts[1]).merge(parts[2])
    assert (added.images, added.agree) == (whole.images, whole.agree)
    assert added.kl_sum == pytest.approx(whole.kl_sum, abs=1e-9)
    assert 0.0 <= whole.agreement <= 1.0 and whole.kl == whole.kl_sum / 3


@covers(
    "quantize.metrics.Equality.from_logits",
    "quantize.metrics.Equality.merge",
    "quantize.metrics.Equality.bit_equal",
    does="equal images and the largest difference are exact",
)
@given(left=LOGITS, right=LOGITS, same=st.booleans())
def test_equality(left: Any, right: Any, same: bool) -> None:
    right = left.copy() if same else right
    found = Equality.from_logits(left, right)
    equal = [bool((a == b).all()) for a, b in zip(left, right, strict=True)]
    assert (found.images, found.equal_images, found.bit_equal) == (3, sum(equal), all(equal))
    gaps = [
        abs(Fraction(float(a)) - Fraction(float(b)))
        for a, b in zip(left.reshape(-1), right.reshape(-1), strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if math.isfinite(found.max_abs_difference) and np.isfinite([left, right]).all():
        assert found.max_abs_difference == pytest.approx(float(max(gaps)), rel=1e-12)
    assert found.merge(Equality()) == found


@covers(
    "quantize.metrics.check_finite",
    does="exactly the rows with NaN or plus infinity are named",
)
@given(logits=LOGITS, bad=st.sets(st.integers(0, 2)), value=st.sampled_from([np.nan, np.inf]))
def test_rows_that_are_not_finite_are_named(logits: Any, bad: set[int], value: float) -> None:
    for row in bad:
        logits[row, row] = value
    if not bad:
        check_finite(logits, "m")
        return
    with pytest.raises(NonFiniteError) as caught:
        check_finite(logits, "m")
    assert (caught.value.model, caught.value.rows) == ("m", tuple(sorted(bad)))


@covers(
    "quantize.metrics.guessing_accuracy",
    does="guessing is at least chance, and comes nearer to it with more images",
)
@given(classes=st.integers(2, 2000), images=st.integers(1, 10**6))
def test_guessing(classes: int, images: int) -> None:
    found = guessing_accuracy(classes, images)
    assert found >= 1 / classes and found >= guessing_accuracy(classes, images * 4)


COUNT = st.integers(0, 5000)
OUTCOMES = st.builds(PairedOutcomes, both=COUNT, lost=COUNT, won=COUNT, neither=COUNT)


@covers(
    "quantize.statistics.absolute_decline",
    "quantize.statistics._won_given_difference",
    "quantize.statistics._standardized",
    "quantize.statistics._solve",
    "quantize.statistics._normal_quantile",
    does="the exact decline is in the interval, which is in [-1, 1] and excludes 0 when McNemar's test does",
)
@given(outcomes=OUTCOMES)
def test_intervals_of_differences(outcomes: PairedOutcomes) -> None:
    found = absolute_decline(outcomes)
    if not outcomes.images:
        assert math.isnan(found.low)
        return
    estimate = Fraction(outcomes.lost - outcomes.won, outcomes.images)
    assert Fraction(found.estimate) == pytest.approx(float(estimate), abs=1e-15)
    assert -1.0 <= found.low <= found.estimate <= found.high <= 1.0
    n = outcomes.lost + outcomes.won
    statistic = abs(outcomes.lost - outcomes.won) / math.sqrt(n) if n else 0.0
    if abs(statistic - 1.959963984540054) > 1e-6:
        excluded = found.low > 1e-12 or found.high < -1e-12
        assert excluded is (statistic > 1.959963984540054)


@covers(
    "quantize.statistics.relative_decline",
    "quantize.statistics._won_given_ratio",
    "quantize.statistics._bracket",
    does="the interval has the exact ratio in it, ends at 1 at most, and agrees in sign with the difference",
)
@given(outcomes=OUTCOMES)
def test_intervals_of_ratios(outcomes: PairedOutcomes) -> None:
    found, difference = relative_decline(outcomes), absolute_decline(outcomes)
    right = outcomes.both + outcomes.lost
    if not right:
        assert math.isnan(found.estimate)
        return
    wanted = 1 - Fraction(outcomes.both + outcomes.won, right)
    assert found.estimate == pytest.approx(float(wanted), abs=1e-12)
    slack = 1e-9 * max(1.0, abs(found.estimate))
    assert found.low - slack <= found.estimate <= found.high + slack
    assert found.high <= 1.0 and math.isfinite(found.low)
    if outcomes.lost + outcomes.won:
        for one, other in ((found.low, difference.low), (-found.high, -difference.high)):
            assert one * other >= 0 or min(abs(one), abs(other)) < 1e-9


@covers(
    "quantize.statistics.mcnemar_p_value",
    "quantize.statistics.PairedOutcomes.from_hits",
    "quantize.statistics.PairedOutcomes.images",
    does="the p-value is the exact binomial one, and outcomes are counted one by one",
)
@given(hits=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_exact_p_values(hits: list[tuple[bool, bool]]) -> None:
    reference, model = (np.array(column, np.bool_) for column in zip(*hits, strict=True))
    outcomes = PairedOutcomes.from_hits(reference, model)
    assert outcomes == PairedOutcomes(
        hits.count((True, True)),
        hits.count((True, False)),
        hits.count((False, True)),
        hits.count((False, False)),
    )
    assert outcomes.images == len(hits)
    n, k = outcomes.lost + outcomes.won, min(outcomes.lost, outcomes.won)
    tail = Fraction(sum(math.comb(n, i) for i in range(k + 1)), 2**n)
    assert mcnemar_p_value(outcomes) == float(min(Fraction(1), 2 * tail))


@pytest.mark.robustness(
    "Numbers",
    "Intervals of 25 images, for which every possible outcome can be added up with its exact probability",
    "the 95 % intervals cover the truth with a probability of 93 to 99 %",
)
@pytest.mark.parametrize(
    ("lost", "won", "both"),
    [("1/10", "1/10", "7/10"), ("1/5", "1/20", "3/5"), ("3/10", "1/10", "2/5"), ("1/10", "1/50", "4/5")],
)
def test_coverage_by_exact_multinomials(lost: str, won: str, both: str) -> None:
    n, shares = 25, [Fraction(both), Fraction(lost), Fraction(won)]
    shares.append(1 - sum(shares))
    truth, ratio = float(shares[1] - shares[2]), float((shares[1] - shares[2]) / (shares[0] + shares[1]))
    total, covered_difference, covered_ratio = Fraction(0), Fraction(0), Fraction(0)
    for counts in itertools.product(range(n + 1), repeat=3):
        rest = n - sum(counts)
        if rest < 0:
            continue
        table = (*counts, rest)
        ways = math.factorial(n)
        for count in table:
            ways //= math.factorial(count)
        probability = Fraction(ways)
        for share, count in zip(shares, table, strict=True):
            probability *= share**count
        total += probability
        if probability < Fraction(1, 10**6):
            continue  # 3,276 tables; these add up to less than 0.4 %
        outcomes = PairedOutcomes(*table)
        difference, relative = absolute_decline(outcomes), relative_decline(outcomes)
        covered_difference += probability * (difference.low <= truth <= difference.high)
        covered_ratio += probability * (relative.low <= ratio <= relative.high)
    assert total == 1
    assert Fraction(93, 100) <= covered_difference <= Fraction(99, 100)
    assert Fraction(93, 100) <= covered_ratio <= Fraction(99, 100)


@covers(
    "quantize.sequential.Sequential.add",
    "quantize.sequential.Sequential.refuted",
    "quantize.sequential.Sequential._bet",
    "quantize.sequential.Sequential.log_capital",
    "quantize.sequential.Sequential.decline",
    does="the capital is at most 1 on average over all orders of a trial that meets the criterion",
)
@given(
    trial=st.lists(st.sampled_from([(1, 1), (1, 0), (0, 1), (0, 0)]), min_size=6, max_size=6),
    slack=st.integers(0, 2),
)
def test_the_capital_is_a_supermartingale(trial: list[tuple[int, int]], slack: int) -> None:
    decline = sum(a - b for a, b in trial)
    tolerance = max(Fraction(decline + slack, 6), Fraction(0))
    if tolerance >= 1:
        return
    criterion = Criterion("absolute", float(tolerance))
    orders = set(itertools.permutations(trial))
    capitals = np.zeros((len(orders), 6))
    for row, order in enumerate(orders):
        test = Sequential(np.array([a for a, _ in order], np.bool_), criterion, error_fraction=1e-9)
        for step, (_, hit) in enumerate(order):
            refuted = test.add(np.array([hit], np.bool_))
            capitals[row, step] = math.exp(test.log_capital)
            assert not refuted
        assert test.decline == pytest.approx(decline / 6)
    # Each distinct order stands for equally many permutations.
    assert np.all(capitals.mean(axis=0) <= 1 + 1e-9)


@covers(
    "quantize.diagnose.signal.decibel",
    does="a number, or an infinity that says what is missing; never an error",
)
@given(signal=st.floats(0, 1e300), noise=st.floats(0, 1e300))
def test_decibels(signal: float, noise: float) -> None:
    found = decibel(signal, noise)
    assert math.isnan(found) is (signal == noise == 0.0)
    if signal > 0.0 and noise > 0.0 and math.isfinite(signal / noise) and signal / noise > 0.0:
        assert 10 ** (found / 10) == pytest.approx(signal / noise, rel=1e-9)
