"""Which rules are tried, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from quantize.refine.ranges import rules_for
from quantize.scales import ActivationScale, activation_scale


@dataclass
class Table:
    """Tensors that reach 1 on most images, and so much on all of them."""

    largest: dict[str, float]

    def scale(self, tensor: str, rule: str) -> ActivationScale:
        return activation_scale(0.0, self.largest[tensor] if rule == "minmax" else 1.0)


def table(*largest: float) -> Table:
    return Table({f"t{place}": end for place, end in enumerate(largest)})


@pytest.mark.parametrize(
    ("tails", "first"),
    [
        ([1.0] * 10, "quantile90"),
        ([1.3, 1.5, 1.8, 2.5], "quantile90"),  # as the digits networks
        ([1.2, 1.5, 1.5, 4.4, 13.0], "quantile"),  # as MobileNetV2 for ImageNet
        # A single tensor of many says nothing of the network.
        ([1.0] * 30 + [20.0], "quantile90"),
        ([], "quantile90"),
    ],
)
def test_rules_that_cut_off_come_first_where_a_minority_of_images_reaches_far(
    tails: list[float], first: str
) -> None:
    measured = table(*tails)
    assert rules_for(measured, measured.largest, full=False)[0] == first


def test_every_rule_is_tried_and_those_of_histograms_with_full_effort_only() -> None:
    for tails in (table(1.0), table(9.0)):
        fast, full = (rules_for(tails, tails.largest, full=full) for full in (False, True))
        assert sorted(fast) == ["mean", "median", "minmax", "quantile", "quantile90"]
        assert full == (*fast, "mse", "percentile", "kl")
