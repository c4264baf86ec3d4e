"""Whether a trial can still meet the criterion: a test that may be looked at after every image.

Fp32's outcome on all N evaluation images is known; a trial's becomes known image by image, in random order.
Let x_t be 1 where fp32 is right and the trial wrong, -1 where it is the other way round, else 0. The trial
meets the criterion on all N images if and only if the mean of their x is at most m (the tolerance, times
fp32's accuracy if it is relative). Under that hypothesis, with S the sum of what was seen, the next x has an
expectation of at most m_t = (N m - S) / (N - t + 1), because the images are drawn without replacement.

So the capital of a gambler who bets a share λ_t of it on "x is more than m_t",

    K_t = K_(t-1) · (1 + λ_t (x_t - m_t)),   0 ≤ λ_t < 1 / (1 + m_t),

is a nonnegative supermartingale that starts at 1, whatever rule chooses λ_t from the past, and by Ville's
inequality it ever reaches 1/e with probability at most e: the chance that a trial which meets the criterion
is abandoned, however often one looks. The bets are an average over a grid of λ, which is a capital too.

- I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", Journal of the
  Royal Statistical Society B 86 (2024) 1-27: the capital process, and section 5 on sampling without
  replacement;
- J. Ville, "Étude critique de la notion de collectif" (1939): the inequality.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from quantize.criterion import Criterion
from quantize.portable_math import log

Bools = npt.NDArray[np.bool_]

# With fewer images a pass takes seconds, and all of it is wanted for the report.
LEAST_IMAGES = 5000

# Shares of the capital. The best one is about (excess of the mean) / (share of images that differ): declines
# just above a tolerance of 1 % among 5 % differing images want 0.1 to 0.3, bad trials as much as they can.
_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7])
_LN2 = float(log(2.0))
# Powers of two after which the capitals are brought back to 1; float64 reaches to 1023.
_FAR = 500
# Of the largest bet that cannot ruin the gambler.
_BOLDEST_FRACTION = 0.95


class Sequential:
    """The test of one trial.

    Args:
        baseline: whether fp32 is right, [N] bool, in the order in which the trial's outcomes will come; that
            order has to be random, and chosen without a look at any outcome.
        criterion: what the trial is to meet.
        error_fraction: e, the greatest acceptable chance of abandoning a trial that meets it.
    """

    def __init__(self, baseline: Bools, criterion: Criterion, *, error_fraction: float) -> None:
        self._baseline = baseline
        reference = float(baseline.mean())
        scale = reference if criterion.kind == "relative" else 1.0
        self._allowed_sum = criterion.tolerance * scale * len(baseline)
        self._threshold = math.log(1 / error_fraction)
        # K of each bet is `capitals · 2^exponent`: products need no logarithm, whose last bit is not the same
        # on every CPU.
        self._capitals, self._exponent = np.ones(len(_BETS)), 0
        self._seen = 0
        self._sum = 0

    @property
    def seen(self) -> int:
        """Images so far."""
        return self._seen

    @property
    def decline(self) -> float:
        """Accuracy lost on the images so far, a fraction of them; NaN before the first."""
        return self._sum / self._seen if self._seen else math.nan

    @property
    def log_capital(self) -> float:
        """Log K, of the average over all bets."""
        return float(log(self._capitals.mean())) + self._exponent * _LN2

    def add(self, hits: Bools) -> bool:
        """Takes the trial's outcomes on the next images; whether the criterion is refuted by now.

        Args:
            hits: whether the trial is right, [n] bool.
        """
        reference = self._baseline[self._seen : self._seen + len(hits)]
        for difference in (reference.astype(np.int8) - hits.astype(np.int8)).tolist():
            self._bet(difference)
        return self.refuted()

    def refuted(self) -> bool:
        """Whether the trial misses the criterion: for certain, or at the chosen confidence."""
        left = len(self._baseline) - self._seen
        # Even if the trial won every image that is left.
        return self._sum - left > self._allowed_sum + _SLACK or self.log_capital >= self._threshold

    def _bet(self, difference: int) -> None:
        left = len(self._baseline) - self._seen
        mean = (self._allowed_sum - self._sum) / left
        self._seen += 1
        self._sum += difference
        if mean <= -1:  # the hypothesis is impossible, which `refuted` says without any bet
            return
        bets = np.minimum(_BETS, _BOLDEST_FRACTION / (1 + mean))
        self._capitals *= 1.0 + bets * (difference - mean)
        _, exponent = math.frexp(float(self._capitals.max()))
        if abs(exponent) > _FAR:
            self._capitals = np.ldexp(self._capitals, -exponent)
            self._exponent += exponent


# `allowed_sum` is a product of floats, and a criterion that is met exactly is met.
_SLACK = 1e-9
