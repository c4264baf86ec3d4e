"""What full effort carries through all passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantize.refine.judge import Score
from quantize.refine.network import Draft
from quantize.refine.report import PassReport

# What the passes made of a variant, how close it is to fp32, and what each pass did.
Outcome = tuple[Draft, Score, tuple[PassReport, ...]]


@dataclass(frozen=True)
class Variant:
    """One way to begin.

    Attributes:
        rule: the rule for activation ranges.
        exponent: of the factors that dense operators divide out again; see `equalize`.
        scaled: whether ranges of single tensors are multiplied; see `scaling`.
    """

    rule: str
    exponent: float = 0.0
    scaled: bool = False

    @property
    def name(self) -> str:
        """What it is called in reports."""
        parts = [self.rule]
        if self.exponent > 0.0:
            parts.append(f"dense exponent {self.exponent:g}")
        if self.scaled:
            parts.append("scaled ranges")
        return ", ".join(parts)


def best_of(outcomes: Mapping[Variant, Outcome]) -> Variant:
    """The variant closest to fp32; of equal ones, the first."""
    return min(outcomes, key=lambda variant: outcomes[variant][1].kl)
