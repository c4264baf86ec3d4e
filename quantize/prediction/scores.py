"""Logits → what a model says about each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.labels import Label
from quantize.metrics import log_probabilities
from quantize.portable_math import exp

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Guess:
    """One class that a model considers.

    Attributes:
        index: of the class.
        probability: between 0 and 1.
        label: its names, None without a list of labels.
    """

    index: int
    probability: float
    label: Label | None

    def to_json(self) -> dict[str, Any]:
        """As plain values; names only where there are some."""
        names = {} if self.label is None else {"name": self.label.name}
        wnid = {} if self.label is None or self.label.wnid is None else {"wnid": self.label.wnid}
        return {"class": self.index, "probability": self.probability, **wnid, **names}


def best(
    logits: Floats, *, count: int, probabilities: bool, labels: Sequence[Label] | None
) -> list[list[Guess]]:
    """The `count` most probable classes of each image, the most probable first; of equals, the lower index.

    Args:
        logits: [N, classes], finite.
        count: at most so many.
        probabilities: whether they went through a softmax already.
        labels: one for each class.
    """
    shares = exp(log_probabilities(logits, probabilities=probabilities))
    # Sorted by the scores themselves: two of them may be told apart where their probabilities round to one.
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")[:, :count]
    return [
        [Guess(int(i), float(row[i]), None if labels is None else labels[i]) for i in chosen]
        for row, chosen in zip(shares, order, strict=True)
    ]
