"""What ties and what does not, on divergences made for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantize.refine.ranking import exceeds_error, ranked


def test_what_is_surely_better_comes_first() -> None:
    assert ranked({"a": np.array([1.2, 1.3, 1.2]), "b": np.array([1.0, 1.1, 1.0])}) == ["b", "a"]


def test_what_is_much_better_comes_first_even_if_it_may_be_chance() -> None:
    noisy = np.array([0.0, 9.0, 0.0, 0.0])
    assert ranked({"a": noisy, "b": np.array([1.0, 1.0, 1.0, 1.0])}) == ["b", "a"]
    assert ranked({"a": noisy, "b": np.array([2.0, 2.0, 2.0, 2.0])}) == ["a", "b"]


def test_a_tie_goes_to_the_one_preferred_beforehand() -> None:
    preferred = np.array([1.0, 3.0, 2.0, 4.0])
    # better by 0.25 on average, with a standard error of 0.88
    other = preferred + np.array([1.5, -2.0, 1.0, -1.5])
    assert other.mean() < preferred.mean()
    assert ranked({"preferred": preferred, "other": other}) == ["preferred", "other"]
    assert ranked({"other": other, "preferred": preferred}) == ["other", "preferred"]


def test_it_is_the_differences_that_count_and_not_the_spread_of_the_images() -> None:
    images = np.array([0.001, 0.5, 0.02, 3.0, 0.1])  # hard and easy ones; the mean's standard error is 0.58
    assert ranked({"a": images + 0.01, "b": images}) == ["b", "a"]
    assert ranked({"a": images + np.array([0.11, -0.09, 0.11, -0.09, 0.01]), "b": images}) == ["a", "b"]


def test_only_the_first_of_the_ties_is_preferred_and_all_others_follow_by_their_mean() -> None:
    base = np.array([1.0, 1.0, 1.0, 1.0])
    noisy = np.array([0.1, -0.1, 0.3, -0.2])
    found = ranked(
        {
            "worst": base + 9,
            "tie": base + noisy,
            "worse": base + 5,
            "other tie": base - noisy / 9 + 0.01,
            "best": base,
        }
    )
    assert found == ["tie", "best", "other tie", "worse", "worst"]


@pytest.mark.parametrize(("errors", "order"), [(1.9, ["a", "b"]), (2.1, ["b", "a"])])
def test_two_standard_errors_make_a_difference(errors: float, order: list[str]) -> None:
    differences = np.array([0.0, 2.0])  # their standard error is 1
    differences += errors - 1.0  # and this their mean
    assert ranked({"a": 90 + differences, "b": np.full(2, 90.0)}) == order


def test_a_single_image_decides_little() -> None:
    assert ranked({"a": np.array([1.2]), "b": np.array([1.0])}) == ["a", "b"]
    assert ranked({"a": np.array([1.3]), "b": np.array([1.0])}) == ["b", "a"]
    assert not exceeds_error(np.array([1.0]), 1.0)


def test_the_standard_error_itself() -> None:
    differences = np.array([0.0, 2.0])  # mean 1, s = sqrt(2), standard error 1
    assert not exceeds_error(differences, 1.0)
    assert exceeds_error(differences + 0.01, 1.0)
    assert exceeds_error(differences, 0.5)
    assert not exceeds_error(np.zeros(5), 1.0)
    assert not exceeds_error(-np.ones(5), 1.0)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.floats(0, 1e3)))
def test_every_candidate_is_ranked_once_and_the_first_ties_with_the_least(values: np.ndarray) -> None:
    table = {str(number): row for number, row in enumerate(values)}
    order = ranked(table)
    assert sorted(order) == sorted(table)
    least = min(table.values(), key=lambda row: float(row.mean()))
    assert not exceeds_error(table[order[0]] - least, 2.0)
    assert table[order[0]].mean() <= 1.25 * least.mean()
    assert order == ranked(table)


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_units_do_not_matter(factor: float) -> None:
    random = np.random.default_rng(4)
    table = {name: random.integers(0, 64, 20) / 64 for name in "abcdef"}
    assert ranked({name: row * factor for name, row in table.items()}) == ranked(table)
