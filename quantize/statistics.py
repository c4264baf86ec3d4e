"""Paired comparison of two classifiers on the same images: what was lost, with its uncertainty.

Both models see the same images, so only the images on which exactly one of them is right carry information
about the difference. Intervals that treat the two accuracies as independent are several times too wide.

Both intervals invert a score test, with the nuisance parameter estimated under the hypothesis; they stay
inside the possible values, keep their coverage with few discordant images, and agree with McNemar's statistic
(n10 - n01) / √(n10 + n01) at "no difference":

- difference: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
  paired-sample design", Statistics in Medicine 17 (1998) 891-908;
- ratio: J. Nam and W. C. Blackwelder, "Analysis of the ratio of marginal probabilities in a matched-pair
  setting", Statistics in Medicine 21 (2002) 689-699, and N.-S. Tang, M.-L. Tang and I. S. F. Chan, "On tests
  of equivalence via non-unity relative risk for matched-pair design", Statistics in Medicine 22 (2003)
  1217-1233.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from quantize.errors import EngineError

# A bisection halves its bracket each time; 200 halvings exhaust float64 from any bracket met here.
_BISECTIONS = 200


@dataclass(frozen=True)
class PairedOutcomes:
    """How often reference and model were right on the same images: `images = both + lost + won + neither`."""

    both: int
    lost: int
    """The reference was right, the model wrong (n10)."""
    won: int
    """The model was right, the reference wrong (n01)."""
    neither: int

    @classmethod
    def from_hits(cls, reference: npt.NDArray[np.bool_], model: npt.NDArray[np.bool_]) -> PairedOutcomes:
        """Count from one bool per image, [N] each, in the same order."""
        if reference.shape != model.shape:
            raise EngineError(f"paired outcomes: expected {reference.shape}, got {model.shape}")
        both = int((reference & model).sum())
        lost, won = int(reference.sum()) - both, int(model.sum()) - both
        return cls(both, lost, won, len(reference) - both - lost - won)

    @property
    def images(self) -> int:
        """How many images were compared."""
        return self.both + self.lost + self.won + self.neither


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its two-sided confidence interval, as fractions; NaN where undefined."""

    estimate: float
    low: float
    high: float


_UNDEFINED = Interval(math.nan, math.nan, math.nan)


def absolute_decline(outcomes: PairedOutcomes, confidence_fraction: float = 0.95) -> Interval:
    """Accuracy lost, p_reference - p_model, with Tango's score interval; positive is worse.

    The ends are the δ with Z(δ) = ±z, where Z(δ) = (lost - won - nδ) / √(n(2q + δ(1 - δ))) and q, the
    probability of "won" that is most likely under δ, is the positive root of
    2n q² + ((2n - lost + won) δ - lost - won) q - won δ(1 - δ) = 0. Undefined (NaN) without images.
    """
    n = outcomes.images
    if n == 0:
        return _UNDEFINED

    def score(delta: float) -> float:
        variance = n * (2 * _won_given_difference(outcomes, delta) + delta * (1 - delta))
        return _standardized(outcomes.lost - outcomes.won - n * delta, variance)

    z = _normal_quantile(confidence_fraction)
    estimate = (outcomes.lost - outcomes.won) / n
    return Interval(estimate, _solve(score, z, -1.0, estimate), _solve(score, -z, estimate, 1.0))


def relative_decline(outcomes: PairedOutcomes, confidence_fraction: float = 0.95) -> Interval:
    """Share of the reference's accuracy lost, 1 - p_model / p_reference; positive is worse.

    The interval is 1 - θ for the θ with T(θ) = ±z of the ratio's score statistic
    T(θ) = (x_model - θ x_reference) / √(θ m (s_lost + s_won)), m = both + lost + won, with the shares s that
    are most likely under θ. Undefined (NaN) when the reference is never right.
    """
    reference, model = outcomes.both + outcomes.lost, outcomes.both + outcomes.won
    if reference == 0:
        return _UNDEFINED
    right_at_all = reference + outcomes.won

    def score(theta: float) -> float:
        won = _won_given_ratio(outcomes, theta)
        lost = (1 - theta) + theta * won
        return _standardized(model - theta * reference, theta * right_at_all * (won + lost))

    z = _normal_quantile(confidence_fraction)
    ratio = model / reference
    lowest = _solve(score, z, 0.0, ratio) if model else 0.0
    highest = _solve(score, -z, ratio, _bracket(score, -z, max(1.0, ratio)))
    return Interval(1 - ratio, 1 - highest, 1 - lowest)


def mcnemar_p_value(outcomes: PairedOutcomes) -> float:
    """Exact two-sided p-value of "neither model is better".

    2 P(X ≤ min(lost, won)) with X ~ Binomial(lost + won, 1/2). In whole numbers, so exact for any
    count; at most 1, and 1 when the models never differ.
    """
    trials, smaller = outcomes.lost + outcomes.won, min(outcomes.lost, outcomes.won)
    term = 1
    tail: int = 1
    for k in range(1, smaller + 1):
        term = term * (trials - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / (1 << trials))


def _won_given_difference(outcomes: PairedOutcomes, delta: float) -> float:
    """Most likely probability of "won" when that of "lost" exceeds it by `delta`."""
    n, lost, won = outcomes.images, outcomes.lost, outcomes.won
    linear = (2 * n - lost + won) * delta - lost - won
    constant = -won * delta * (1 - delta)
    root = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    return max(root, -delta, 0.0)


def _won_given_ratio(outcomes: PairedOutcomes, theta: float) -> float:
    """Most likely share of "won" among images that anyone got right, when p_model = theta · p_reference.

    The shares then depend on s = s_won alone: s_lost = 1 - θ + θs and s_both = θ - (1 + θ)s. The derivative
    of both·log s_both + lost·log s_lost + won·log s, cleared of fractions, is a quadratic whose larger root
    is in range.
    """
    both, lost, won = outcomes.both, outcomes.lost, outcomes.won
    quadratic = theta * (1 + theta) * (both + lost + won)
    linear = theta**2 * lost + (2 * theta**2 - 1) * won - (1 - theta**2) * both
    constant = won * theta * (1 - theta)
    root = (linear + math.sqrt(max(0.0, linear * linear + 4 * quadratic * constant))) / (2 * quadratic)
    return min(max(root, 0.0, (theta - 1) / theta), theta / (1 + theta))


def _standardized(difference: float, variance: float) -> float:
    """`difference` in standard deviations; without variance, a difference is infinitely many of them."""
    if variance > 0:
        return difference / math.sqrt(variance)
    return 0.0 if difference == 0 else math.copysign(math.inf, difference)


def _normal_quantile(confidence_fraction: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence_fraction / 2)


def _bracket(score: Callable[[float], float], target: float, start: float) -> float:
    """A point at which the falling `score` is below `target`; it falls like -√θ, so doubling ends soon."""
    while score(start) > target:
        start *= 2
    return start


def _solve(score: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where the falling `score` crosses `target` within [low, high]; the nearer end if it never does."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if score(middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
