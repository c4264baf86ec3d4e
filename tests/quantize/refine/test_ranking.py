"""The one-standard-error rule, on divergences made for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantize.refine.ranking import exceeds_error, ranked


def test_what_is_surely_better_comes_first() -> None:
    assert ranked({"a": np.array([2.0, 2.1, 2.0]), "b": np.array([1.0, 1.1, 1.0])}) == ["b", "a"]


def test_a_tie_goes_to_the_one_preferred_beforehand() -> None:
    preferred = np.array([1.0, 3.0, 2.0, 4.0])
    # better by 0.25 on average, with a standard error of 0.75
    other = preferred + np.array([1.5, -2.0, 1.0, -1.5])
    assert other.mean() < preferred.mean()
    assert ranked({"preferred": preferred, "other": other}) == ["preferred", "other"]
    assert ranked({"other": other, "preferred": preferred}) == ["other", "preferred"]


def test_it_is_the_differences_that_count_and_not_the_spread_of_the_images() -> None:
    images = np.array([0.001, 0.5, 0.02, 3.0, 0.1])  # hard and easy ones; the mean's standard error is 0.58
    assert ranked({"a": images + 0.01, "b": images}) == ["b", "a"]


def test_ties_come_before_all_others_and_those_follow_by_their_mean() -> None:
    base = np.array([1.0, 1.0, 1.0, 1.0])
    noisy = np.array([0.1, -0.1, 0.3, -0.2])
    found = ranked({"worst": base + 9, "tie": base + noisy, "worse": base + 5, "best": base})
    assert found == ["tie", "best", "worse", "worst"]


def test_a_single_image_decides_nothing() -> None:
    assert ranked({"a": np.array([2.0]), "b": np.array([1.0])}) == ["a", "b"]
    assert not exceeds_error(np.array([1.0]))


def test_the_standard_error_itself() -> None:
    differences = np.array([0.0, 2.0])  # mean 1, s = sqrt(2), standard error 1
    assert not exceeds_error(differences)
    assert exceeds_error(differences + 0.01)
    assert exceeds_error(differences, errors=0.5)
    assert not exceeds_error(np.zeros(5))
    assert not exceeds_error(-np.ones(5))


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.floats(0, 1e3)))
def test_every_candidate_is_ranked_once_and_the_first_ties_with_the_least(values: np.ndarray) -> None:
    table = {str(number): row for number, row in enumerate(values)}
    order = ranked(table)
    assert sorted(order) == sorted(table)
    least = min(table.values(), key=lambda row: float(row.mean()))
    assert not exceeds_error(table[order[0]] - least)
    assert order == ranked(table)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_adding_to_all_changes_nothing(shift: float) -> None:
    random = np.random.default_rng(4)
    table = {name: random.integers(0, 64, 20) / 64 for name in "abcdef"}
    assert ranked({name: row + shift for name, row in table.items()}) == ranked(table)
