"""The size of the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantize.refine.gain import gain_of, is_plausible

RANDOM = np.random.default_rng(4)
SCORES = RANDOM.normal(size=(30, 10)) * 5


@pytest.mark.parametrize("size", [0.8, 1.0, 1.3])
def test_a_factor_is_found_whatever_is_added_per_image(size: float) -> None:
    shifted = size * SCORES + RANDOM.normal(size=(30, 1))
    assert gain_of(shifted, SCORES) == pytest.approx(
        size, rel=2**-10
    )  # it is rounded to ten significant bits


def test_probabilities_are_scores_again_as_logarithms() -> None:
    def softmax(x: Any) -> Any:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    found = gain_of(softmax(0.9 * SCORES), softmax(SCORES), probabilities=True)
    assert found == pytest.approx(0.9, rel=2**-10)


def test_scores_that_say_nothing_have_gain_one() -> None:
    assert gain_of(SCORES, np.ones_like(SCORES)) == 1.0


def test_what_is_plausible() -> None:
    assert is_plausible(0.97)
    assert not any(is_plausible(gain) for gain in (0.1, 9.0, -1.0, float("nan"), float("inf")))
