"""The section `tuning` of the 1.x schema: what loss is accepted, and how the search for it goes."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from quantize.config.fields import DataPath, Fraction, FreeMapping, Positive, Seconds, Section
from quantize.config.suggest import did_you_mean
from quantize.errors import quoted

__all__ = ["STRATEGIES", "AccuracyCriterion", "ExitPolicy", "StrategyName", "Tuning"]

StrategyName = Literal["sensitivity", "basic", "bayesian", "exhaustive", "mse_v2", "conservative"]
STRATEGIES: tuple[str, ...] = get_args(StrategyName)

# Strategies that the engine offers and that can not work here: seen to fail with ONNX Runtime, each in its
# own way.
_REFUSED = {
    "mse": "it fails on networks with Clip or Relu; use mse_v2",
    "hawq_v2": "it needs a PyTorch model; use sensitivity, which ranks operators too",
    "tpe": "it installs packages while it runs and does not work with ONNX Runtime; use bayesian",
    "random": "it lists every combination (6^53 for MobileNetV2) before it draws one; use bayesian",
    "sigopt": "it needs an account at a service that is gone; use bayesian",
    "auto": "it reports success with every convolution left in fp32; use sensitivity",
    "auto_mixed_precision": "it makes bfloat16 models, not int8; use sensitivity",
}

DEFAULT_TOLERANCE = 0.01


class Strategy(Section):
    """Which strategy of the engine searches."""

    name: StrategyName = Field(
        default="sensitivity",
        description="sensitivity (ours: full int8 first, then operators go back to fp32 one by one, most "
        "sensitive first), basic, bayesian, exhaustive, mse_v2 or conservative. Default: sensitivity.",
    )
    confidence_batches: Positive | None = Field(default=None, description="1.x, for mse_v2: not acted on.")
    accuracy_weight: float | None = Field(default=None, description="1.x: not acted on.")
    latency_weight: float | None = Field(default=None, description="1.x: not acted on.")
    hawq_v2_loss: Any = Field(default=None, description="1.x: not acted on.")
    sigopt_api_token: str | None = Field(default=None, description="1.x: not acted on.")
    sigopt_project_id: str | None = Field(default=None, description="1.x: not acted on.")
    sigopt_experiment_name: str | None = Field(default=None, description="1.x: not acted on.")

    @field_validator("name", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if given in STRATEGIES:
            return given
        if isinstance(given, str) and given in _REFUSED:
            raise ValueError(f"{quoted(given)} is not offered: {_REFUSED[given]}")
        raise ValueError(f"{quoted(given)} is no strategy; {did_you_mean(str(given), STRATEGIES)}")


class AccuracyCriterion(Section):
    """How much accuracy may be lost: one of `relative` and `absolute`."""

    relative: Fraction | None = Field(
        default=None, description="Largest (fp32 - int8) / fp32, as a fraction or percentage. Default: 0.01."
    )
    absolute: Fraction | None = Field(
        default=None, description="Largest fp32 - int8, as a fraction or percentage points."
    )
    higher_is_better: bool = Field(
        default=True, description="1.x: always true for an accuracy. Default: true."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> AccuracyCriterion:
        if self.relative is not None and self.absolute is not None:
            raise ValueError(
                f"relative ({self.relative:g}) and absolute ({self.absolute:g}) are both given; keep one"
            )
        if not self.higher_is_better:
            raise ValueError("higher_is_better: false contradicts evaluation.accuracy.metric.topk; remove it")
        return self

    @property
    def kind(self) -> Literal["relative", "absolute"]:
        """Which of the two was given; relative when neither was."""
        return "relative" if self.absolute is None else "absolute"

    @property
    def tolerance(self) -> float:
        """The number that was given, a fraction; 0.01 when none was."""
        given = self.relative if self.absolute is None else self.absolute
        return DEFAULT_TOLERANCE if given is None else given


class ExitPolicy(Section):
    """When the search ends."""

    timeout: Seconds = Field(
        default=0.0, description="Seconds to search for the best; 0 stops at the first success. Default: 0."
    )
    max_trials: Positive = Field(default=100, description="At most so many trials. Default: 100.")
    abandon_confidence: float = Field(
        default=0.999,
        ge=0.5,
        le=1.0,
        description="How sure it must be that a trial misses the criterion before the rest of 5,000 or more "
        "images is left out (ours); 1 judges every trial on all images. Default: 0.999.",
    )
    performance_only: bool = Field(
        default=False, description="1.x: skip accuracy; not acted on, the result is always verified."
    )


class Workspace(Section):
    """Where the engine keeps its files."""

    path: DataPath | None = Field(
        default=None, description="Default: a temporary folder, removed at the end."
    )
    resume: DataPath | None = Field(
        default=None, description="1.x: does not work in the engine; not acted on."
    )


class Tuning(Section):
    """How the engine searches."""

    strategy: Strategy = Field(default_factory=Strategy, description="Default: sensitivity.")
    accuracy_criterion: AccuracyCriterion = Field(
        default_factory=AccuracyCriterion, description="Default: relative: 0.01."
    )
    exit_policy: ExitPolicy = Field(default_factory=ExitPolicy, description="Default: first success.")
    # numpy's legacy generator, which the engine seeds, takes 32 bits.
    random_seed: int = Field(default=9527, ge=0, lt=2**32, description="Seed of every choice. Default: 9527.")
    workspace: Workspace = Field(default_factory=Workspace, description="Default: temporary.")
    resume: bool = Field(
        default=False,
        description="Reuse the trials, and parts of them, that an earlier run with the same settings had "
        "finished (ours); changes how long a run takes, and nothing that comes out of it. Default: false.",
    )
    objective: Any = Field(default=None, description="1.x: what to prefer among successes; not acted on.")
    multi_objectives: FreeMapping | None = Field(default=None, description="1.x: not acted on.")
    tensorboard: bool = Field(default=False, description="1.x: dump tensors; not acted on.")
    diagnosis: Any = Field(default=None, description="1.x: inspect tensors; not acted on.")
