from __future__ import annotations

import math

import pytest

from quantize.criterion import Criterion


def test_relative_decline_is_a_part_of_the_baseline() -> None:
    assert Criterion("relative", 0.01).decline(0.8, 0.6) == pytest.approx(0.25)
    assert Criterion("absolute", 0.01).decline(0.8, 0.6) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("kind", "tolerance", "baseline", "value", "met"),
    [
        ("relative", 0.01, 0.80, 0.792, True),
        ("relative", 0.01, 0.80, 0.791, False),
        ("absolute", 0.01, 0.80, 0.79, True),
        ("absolute", 0.01, 0.80, 0.789, False),
        ("relative", 0.0, 0.80, 0.80, True),
        ("relative", 0.0, 0.80, 0.81, True),
        ("relative", 0.0, 0.80, 0.79, False),
        ("relative", 0.01, 0.0, 0.0, True),
    ],
)
def test_boundary(kind: str, tolerance: float, baseline: float, value: float, met: bool) -> None:
    assert Criterion(kind, tolerance).met(baseline, value) is met  # type: ignore[arg-type]  # parametrized text


@pytest.mark.parametrize("images", [3, 7, 300, 500, 49_999, 50_000])
def test_counts_on_the_boundary_are_met(images: int) -> None:
    # One lost image of `images` with a tolerance of exactly one image: rounding must not decide.
    for correct in (images, images - 1, images // 2 + 1):
        assert Criterion("absolute", 1 / images).met(correct / images, (correct - 1) / images)
        assert not Criterion("absolute", 1 / images).met(correct / images, (correct - 2) / images)


def test_nan_never_meets() -> None:
    assert not Criterion().met(math.nan, 0.9)
    assert not Criterion().met(0.9, math.nan)


def test_lowest_accepted_is_accepted() -> None:
    for kind in ("relative", "absolute"):
        criterion = Criterion(kind, 0.013)
        assert criterion.met(0.718, criterion.lowest_accepted(0.718))
        assert not criterion.met(0.718, criterion.lowest_accepted(0.718) - 1e-6)


@pytest.mark.parametrize("tolerance", [-0.01, 1.0, math.nan, math.inf])
def test_impossible_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        Criterion("relative", tolerance)


def test_words() -> None:
    assert str(Criterion()) == "relative decline of top-1 at most 1 %"
    assert (
        str(Criterion("absolute", 0.005, "top5")) == "absolute decline of top-5 at most 0.5 percentage points"
    )
