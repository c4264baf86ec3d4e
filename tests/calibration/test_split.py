"""Disjoint, seeded, stratified subsets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import InputError
from calibration.images import ImageSet
from calibration.split import split


def make(labels: list[int]) -> ImageSet:
    return ImageSet(Path("x"), tuple(f"{i:04d}.jpg" for i in range(len(labels))), tuple(labels), "test set")


@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.data())
def test_subsets_are_disjoint_even_and_sorted(labels: list[int], data: st.DataObject) -> None:
    images = make(labels)
    count = data.draw(st.integers(1, len(labels) - 1))
    rest = data.draw(st.none() | st.integers(1, len(labels) - count))
    parts = split(images, count, rest, seed=data.draw(st.integers(0, 99)))
    chosen, other = parts.calibration.files, parts.evaluation.files
    assert len(set(chosen)) == count
    assert len(set(other)) == (len(labels) - count if rest is None else rest)
    assert not set(chosen) & set(other)
    assert list(chosen) == sorted(chosen)
    assert list(other) == sorted(other)
    label_of = dict(zip(images.files, images.labels, strict=True))
    assert [label_of[name] for name in chosen + other] == [
        *parts.calibration.labels,
        *parts.evaluation.labels,
    ]
    # As even as possible: a class has fewer than another one less one only if it has no more to give.
    taken, there = Counter(parts.calibration.labels), Counter(labels)
    for label in there:
        assert taken[label] >= max(taken.values()) - 1 or taken[label] == there[label]


def test_every_class_is_covered_before_any_is_taken_twice() -> None:
    labels = [0] * 90 + list(range(1, 11))
    assert set(split(make(labels), 11, None, seed=0).calibration.labels) == set(range(11))


def test_order_of_the_set_does_not_matter() -> None:
    images = make([i % 7 for i in range(70)])
    backwards = images.subset(range(69, -1, -1))
    one, two = split(images, 10, 20, seed=3), split(backwards, 10, 20, seed=3)
    assert one.calibration.files == two.calibration.files
    assert one.evaluation.files == two.evaluation.files
    assert one.calibration.labels == two.calibration.labels


def test_seed_decides() -> None:
    images = make(list(range(100)))
    assert split(images, 10, 10, 1).calibration.files == split(images, 10, 10, 1).calibration.files
    assert split(images, 10, 10, 1).calibration.files != split(images, 10, 10, 2).calibration.files
    # The calibration images do not change with the number of evaluation images.
    assert split(images, 10, 10, 1).calibration.files == split(images, 10, None, 1).calibration.files


def test_selection_is_pinned() -> None:
    # A change here changes every result that was published with a seed.
    files = split(make([i % 4 for i in range(12)]), 4, 3, seed=0)
    assert files.calibration.files == ("0000.jpg", "0005.jpg", "0006.jpg", "0011.jpg")
    assert files.evaluation.files == ("0003.jpg", "0007.jpg", "0008.jpg")


@pytest.mark.parametrize(
    ("calibration", "evaluation", "seed", "reason"),
    [
        (6, 5, 0, "has 10 images, too few for 6 to calibrate and 5 to evaluate"),
        (10, None, 0, "too few for 10 to calibrate and at least 1 to evaluate"),
        (0, None, 0, "number of calibration images is 0"),
        (1, 0, 0, "number of evaluation images is 0"),
        (1, None, -1, "seed is -1"),
    ],
)
def test_impossible_wishes(calibration: int, evaluation: int | None, seed: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        split(make([0] * 10), calibration, evaluation, seed)


def test_all_images_can_be_used() -> None:
    parts = split(make([0] * 10), 6, 4, seed=0)
    assert len(parts.calibration) + len(parts.evaluation) == 10
