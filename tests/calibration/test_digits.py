"""The bundled example's task: the same pictures everywhere, and a split that loses no digit and no class."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from calibration.digits import (
    DIGIT_COUNT,
    TRAINING_COUNT,
    load_strokes,
    render_digit,
    split_digits,
    stratified_subset,
)
from calibration.errors import InputError


def test_a_picture_is_a_function_of_strokes_and_seed() -> None:
    strokes, _ = load_strokes()
    state = np.random.get_state()[1].copy()
    first, second = (render_digit(strokes[5], 7) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, render_digit(strokes[5].astype(np.uint8), 7))
    assert (first != render_digit(strokes[5], 8)).mean() > 0.5
    assert (np.random.get_state()[1] == state).all(), "the global generator was used"


def test_pictures_are_the_ones_that_the_committed_networks_were_trained_on() -> None:
    strokes, _ = load_strokes()
    pictures = np.stack([render_digit(strokes[index], index) for index in range(0, DIGIT_COUNT, 90)])
    # Another hash means other pictures: train again, and raise _FORMAT in quantize/demo_data.py.
    digest = hashlib.sha256(pictures.tobytes()).hexdigest()
    assert digest == "43570168d6a3c7973244ce7e0b0dac650d9223d5ec2a307ba354a0d0aa3b6007"


def test_pictures_are_colourful_rgb_over_the_whole_range() -> None:
    strokes, _ = load_strokes()
    pictures = np.stack([render_digit(strokes[index], index) for index in range(100)])
    assert pictures.dtype == np.uint8
    assert pictures.shape == (100, 64, 64, 3)
    assert (pictures.min(), pictures.max()) == (0, 255)
    assert (pictures[..., 0] != pictures[..., 2]).mean() > 0.9
    # Paper of every light colour: 128 uniformly random levels spread by 37, of which ink takes some.
    assert pictures.mean(axis=(1, 2)).std(axis=0).min() > 20


def test_an_empty_page_shows_no_ink_and_a_full_one_does() -> None:
    # Same seed, same noise and ground: only the ink differs, which covers a quarter of the picture at least.
    empty, full = (render_digit(np.full((8, 8), level), 3).astype(int) for level in (0, 16))
    assert (np.abs(empty - full).max(axis=2) > 0).mean() > 0.25


@pytest.mark.parametrize(
    ("strokes", "message"),
    [(np.zeros((8, 9)), "shape"), (np.full((8, 8), 17), "0..16"), (np.full((8, 8), np.nan), "0..16")],
)
def test_strokes_that_are_none_are_refused(strokes: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_digit(strokes, 0)


def test_the_split_covers_every_digit_once_and_every_class_alike() -> None:
    _, labels = load_strokes()
    training, held_out = split_digits(labels)
    assert training.size == TRAINING_COUNT
    np.testing.assert_array_equal(np.sort(np.concatenate([training, held_out])), np.arange(DIGIT_COUNT))
    exact = np.bincount(labels) * TRAINING_COUNT / DIGIT_COUNT
    assert np.abs(np.bincount(labels[training]) - exact).max() < 1


def test_the_split_is_the_one_that_the_committed_networks_were_trained_on() -> None:
    training, _ = split_digits(load_strokes()[1])
    digest = hashlib.sha256(training.astype("<i8").tobytes()).hexdigest()
    assert digest == "2e0d2406546f0670faad51e92acb9ac7e58bb90ea52a4283797bf938d9221f20"


def test_a_subset_keeps_shares_and_depends_on_the_seed() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    among = np.arange(100)
    chosen = stratified_subset(labels, among, 10, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [6, 3, 1]
    np.testing.assert_array_equal(chosen, stratified_subset(labels, among, 10, seed=1))
    assert not np.array_equal(chosen, stratified_subset(labels, among, 10, seed=2))
    np.testing.assert_array_equal(stratified_subset(labels, among, 100, seed=1), among)


def test_ties_between_remainders_go_to_the_lower_class() -> None:
    labels = np.repeat(np.arange(4), 5)
    chosen = stratified_subset(labels, np.arange(20), 6, seed=0)
    assert np.bincount(labels[chosen], minlength=4).tolist() == [2, 2, 1, 1]


def test_loaded_strokes_cannot_be_changed_by_accident() -> None:
    strokes, labels = load_strokes()
    assert strokes.shape == (DIGIT_COUNT, 8, 8)
    assert (strokes.min(), strokes.max()) == (0, 16)
    with pytest.raises(ValueError, match="read-only"):
        strokes[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 0


@pytest.fixture
def unloaded() -> Iterator[None]:
    load_strokes.cache_clear()
    yield
    load_strokes.cache_clear()


@pytest.mark.usefixtures("unloaded")
def test_a_missing_scikit_learn_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        load_strokes()


@pytest.mark.usefixtures("unloaded")
def test_other_digits_than_the_split_was_made_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = SimpleNamespace(target=np.zeros(10), images=np.zeros((10, 8, 8)))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", SimpleNamespace(load_digits=lambda: fewer))
    with pytest.raises(InputError, match="10 digits instead of 1797"):
        load_strokes()
