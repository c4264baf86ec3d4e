"""Ranks candidates by few images: differences within the noise of those images do not count.

The one-standard-error rule (Breiman, Friedman, Olshen & Stone, Classification and Regression Trees, 1984,
section 3.4.3): of the candidates whose error is within one standard error of the least, the one that was
preferred beforehand is taken. All candidates are judged on the same images, so it is the standard error of
the differences, image by image, that counts; it is several times smaller than that of the means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def ranked(divergences: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Candidates in order: those that tie with the best one as they came, then the others by their mean.

    Args:
        divergences: candidate → one number for each image, [images], the less the better; the images are the
            same for all. The candidate preferred beforehand comes first.
    """
    means = {name: float(values.mean()) for name, values in divergences.items()}
    best = min(means, key=means.__getitem__)
    ties = [name for name, values in divergences.items() if not exceeds_error(values - divergences[best])]
    return [*ties, *sorted(means.keys() - set(ties), key=lambda name: (means[name], name))]


def exceeds_error(differences: npt.NDArray[Any], errors: float = 1.0) -> bool:
    """Whether the mean of paired differences, [images], is more than so many standard errors above zero.

    The standard error is `s / sqrt(n)` with the sample's standard deviation s (n - 1 in its denominator); a
    single image has none, and no difference exceeds it.
    """
    count = len(differences)
    if count < 2:
        return False
    return bool(differences.mean() > errors * differences.std(ddof=1) / np.sqrt(count))
