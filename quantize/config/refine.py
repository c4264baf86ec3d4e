"""The section `refine` (ours): how much the integer model is improved before it is judged."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from quantize.config.fields import NonNegative, Section
from quantize.config.suggest import did_you_mean
from quantize.errors import quoted

__all__ = ["Refine"]

RULES = ("auto", "quantile", "median", "mean", "quantile90", "minmax", "mse", "percentile", "kl")


class Refine(Section):
    """What the refinement does, and with how many images it is judged."""

    effort: Literal["none", "fast", "full"] = Field(
        default="full",
        description="none; fast (one rule for ranges, all passes once); full (the best three rules through "
        "all passes). Default: full.",
    )
    selection_samples: NonNegative = Field(
        default=50,
        description="Images that choose between variants, used for nothing else. Default: 50.",
    )
    ranges: str = Field(
        default="auto",
        description="Rule for activation ranges: auto (by the effect on the selection images), quantile, "
        "median, mean, quantile90, minmax, mse, percentile or kl. Default: auto.",
    )
    centre: bool = Field(
        default=True, description="Move channels over each other, exactly, in biases. Default: true."
    )
    scaling: bool = Field(
        default=False,
        description="Try wider ranges of single tensors too (full only, a third more time). Default: false.",
    )
    equalize: bool = Field(default=True, description="Bring channels to one size. Default: true.")
    weights: bool = Field(default=True, description="Round weights by GPTQ. Default: true.")
    biases: bool = Field(default=True, description="Correct biases. Default: true.")
    gain: bool = Field(default=True, description="Restore the size of the scores. Default: true.")
    layout: bool = Field(default=True, description="Pad the stem's channels to four. Default: true.")

    @field_validator("ranges")
    @classmethod
    def _known_rule(cls, given: Any) -> Any:
        if given not in RULES:
            raise ValueError(f"{quoted(given)} is no rule; {did_you_mean(given, RULES)}")
        return given
