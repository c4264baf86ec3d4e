"""Counts, fidelity and equality: exact cases first, then analytic ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.errors import EngineError, InputError
from quantize.metrics import Counts, Equality, Fidelity, count_ties, label_ranks, log_probabilities


def test_ranks_break_ties_by_the_lowest_class() -> None:
    logits = np.array([[1, 3, 3, 2], [5, 5, 5, 5]], np.float32)
    assert [label_ranks(logits, np.array([k, k])).tolist() for k in range(4)] == [
        [3, 0],
        [0, 1],
        [1, 2],
        [2, 3],
    ]


def test_counts_of_a_known_batch() -> None:
    logits = np.array([[9, 1, 2, 3, 4, 5, 6], [9, 1, 2, 3, 4, 5, 6], [4, 4, 0, 0, 0, 0, 0]], np.float32)
    counts = Counts.from_logits(logits, np.array([0, 3, 1]))
    assert counts == Counts(images=3, top1_correct=1, top5_correct=3, top1_ties=1)
    assert counts.top1 == pytest.approx(1 / 3)
    assert counts.top5 == 1.0


def test_top5_is_the_fifth_place_and_not_the_sixth() -> None:
    logits = np.arange(8, dtype=np.float32)[None, ::-1]
    hits = [Counts.from_logits(logits, np.array([k])).top5_correct for k in range(8)]
    assert hits == [1, 1, 1, 1, 1, 0, 0, 0]


def test_fewer_than_five_classes_are_always_among_the_first_five() -> None:
    assert Counts.from_logits(np.array([[0.0, 1.0]]), np.array([0])).top5_correct == 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_rank_zero_is_argmax(values: list[int], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(values) - 1))
    logits = np.array([values], np.float32)
    assert (label_ranks(logits, np.array([label]))[0] == 0) == (logits.argmax() == label)


def test_merging_batches_equals_one_batch() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(9, 6)), random.integers(0, 6, 9)
    parts = [Counts.from_logits(logits[s], labels[s]) for s in (slice(0, 4), slice(4, 9))]
    assert Counts.empty().merge(parts[0]).merge(parts[1]) == Counts.from_logits(logits, labels)


def test_nothing_counted_is_undefined() -> None:
    assert np.isnan([Counts().top1, Counts().top5, Fidelity.empty().kl, Fidelity().agreement]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_the_name_of_the_model(bad: float) -> None:
    with pytest.raises(EngineError, match="QDQ: NaN or infinite logits for 1 of 2"):
        Counts.from_logits(np.array([[0.0, bad], [0.0, 1.0]]), np.array([0, 0]), model="QDQ")
    with pytest.raises(EngineError, match="QDQ"):
        Fidelity.from_logits(np.zeros((1, 2)), np.array([[0.0, bad]]), model="QDQ")


def test_minus_infinity_can_be_ranked_and_compared() -> None:
    logits = np.array([[0.0, -np.inf]])
    assert Counts.from_logits(logits, np.array([0])).top1_correct == 1
    assert np.isfinite(Fidelity.from_logits(np.zeros((1, 2)), logits).kl)


@pytest.mark.parametrize(("label", "shift"), [(1000, 1), (-1, -1)])
def test_labels_outside_the_classes_name_the_cure(label: int, shift: int) -> None:
    labels = np.array([0, label, label])
    with pytest.raises(
        InputError, match=rf"label {label} is outside 0\.\.999.*2 of 3 images.*label_shift: {shift}"
    ):
        Counts.from_logits(np.zeros((3, 1000)), labels)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(EngineError, match=r"expected logits \[N, C\]"):
        label_ranks(np.zeros(3), np.zeros(3, np.int64))
    with pytest.raises(EngineError, match="expected outputs"):
        Fidelity.from_logits(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(EngineError, match="put out"):
        Equality.from_logits(np.zeros((2, 3)), np.zeros((2, 4)))


def test_ties_are_images_not_classes() -> None:
    assert count_ties(np.array([[1, 1, 1], [0, 1, 2], [2, 0, 2]])) == 2


def test_kl_of_two_known_distributions() -> None:
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    # Logits are probabilities' logarithms up to a constant, here a large one: only the stable form bears it.
    from_logits = Fidelity.from_logits(np.log(p) + 1e4, np.log(q) - 1e4)
    # 1e4 has float64 neighbours 2e-12 apart.
    assert from_logits.kl == pytest.approx(expected, abs=1e-11)
    assert Fidelity.from_logits(p, q, probabilities=True).kl == pytest.approx(expected, abs=1e-15)


def test_kl_of_itself_is_zero_and_agreement_one() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    same = Fidelity.from_logits(logits, logits)
    assert (same.kl, same.agreement) == (0.0, 1.0)


def test_fidelity_merges() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=(6, 4)), random.normal(size=(6, 4))
    merged = Fidelity.from_logits(a[:2], b[:2]).merge(Fidelity.from_logits(a[2:], b[2:]))
    whole = Fidelity.from_logits(a, b)
    assert (merged.images, merged.agree) == (whole.images, whole.agree)
    assert merged.kl == pytest.approx(whole.kl, rel=1e-14)  # only the order of the sum differs


def test_probability_zero_is_finite_and_sums_are_normalized() -> None:
    coarse = np.array([[0.0, 0.996]])  # an 8-bit softmax: zeros, and a sum below 1
    log_q = log_probabilities(coarse, probabilities=True)
    assert np.isfinite(log_q).all()
    assert log_q[0, 1] == 0.0


def test_equality_counts_images_and_keeps_the_largest_difference() -> None:
    left = np.array([[1, 2], [3, 4]], np.float32)
    assert Equality.from_logits(left, left).bit_equal
    found = Equality.from_logits(left, left + np.array([[0, 0], [0, 0.5]], np.float32)).merge(
        Equality(1, 1, 0.0)
    )
    assert found == Equality(images=3, equal_images=2, max_abs_difference=0.5)
    assert not found.bit_equal
