"""How much refinement is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Effort = Literal["none", "fast", "full"]

AUTO = "auto"


@dataclass(frozen=True)
class RefineOptions:
    """Settings of the refinement.

    Attributes:
        effort: none leaves the engine's model as it is; fast chooses one rule for ranges on plain integer
            models; full carries the best three through all passes, and tries dense equalization.
        ranges: a rule for activation ranges, or "auto".
        scaling: whether full effort tries wider ranges of single tensors as well.
        equalize, weights, biases, gain, layout: which passes run.
        seed: of the sampled positions.
    """

    effort: Effort = "full"
    ranges: str = AUTO
    scaling: bool = False
    equalize: bool = True
    weights: bool = True
    biases: bool = True
    gain: bool = True
    layout: bool = True
    seed: int = 0
