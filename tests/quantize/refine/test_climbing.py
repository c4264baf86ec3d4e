"""Which images a climb to wider ranges measures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quantize.refine.scaling import MULTIPLIERS, best_multiplier
from quantize.scales import ActivationScale

Divergences = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def test_images_that_cannot_change_the_outcome_are_not_measured() -> None:
    """Half of the divergence is that of one image, and the wider range doubles it."""
    asked: list[tuple[float, list[int]]] = []
    values = {1.0: np.ones(64), 1.25: np.full(64, 1.02)}
    values[1.0][50], values[1.25][50] = 64.0, 130.0

    def divergences_of(entry: ActivationScale, of: Indices) -> Divergences:
        asked.append((entry.scale, of.tolist()))
        return values[entry.scale][of]

    ways = {m: ActivationScale(m, 0) for m in MULTIPLIERS}
    values[1.25][:16] = 0.99
    assert best_multiplier(ActivationScale(1.0, 0), ways, divergences_of, np.ones(16), 64) == 1.0
    begin, entry, *rest = asked
    assert begin == (1.25, list(range(16))) and entry == (1.0, list(range(16, 64)))
    assert [scale for scale, _ in rest] == [1.25]
    assert rest[0][1][0] == 50
