"""What goes into the tuning engine and what comes out; free of the engine itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx

from quantize.criterion import Criterion
from quantize.errors import InputError
from quantize.operators import FloatOperator, Inventory
from quantize.ranges import RangeTable
from quantize.refine import Refiner, RefineReport
from quantize.target import Target

# Accuracy of a model on the evaluation images, a fraction; called once for fp32 and once a trial.
Judge = Callable[[onnx.ModelProto], float]

# Mean KL divergence from fp32 on calibration images, in nats; ranks range rules and operators.
Divergence = Callable[[onnx.ModelProto], float]

# Told of every finished trial, for the terminal.
TrialListener = Callable[["Trial"], None]


class CalibrationLoader(Protocol):
    """What the engine needs of a dataloader."""

    batch_size: int

    def __iter__(self) -> Any: ...


@dataclass(frozen=True)
class EngineOptions:
    """How to tune.

    Attributes:
        strategy: one of `SUPPORTED_STRATEGIES`.
        max_trials: trials before the engine gives up, at least 1.
        timeout_s: 0 stops at the first trial that meets the criterion; otherwise tuning goes on for so long,
            in seconds, in search of one with fewer operators in fp32 or more accuracy. The first trial is
            always finished.
        seed: of the engine's random choices.
        criterion: what a trial has to meet.
        calibration_samples: how many images the ranges were measured on.
        optype_wise, op_wise: restrictions per operator type or name. A key is a name, or else a regular
            expression or a shell pattern for the whole name; the values are in the engine's own notation.
        workspace: keeps the engine's files and the model of every trial; None is a temporary folder that is
            removed.
        verbose: let the engine's own log through.
        known_nats: operator name -> divergence saved by leaving it in fp32, where that was measured before
            the run; the strategy "sensitivity" takes its fallback order from it.
    """

    criterion: Criterion
    strategy: str = "sensitivity"
    max_trials: int = 100
    timeout_s: float = 0.0
    seed: int = 9527
    calibration_samples: int = 100
    optype_wise: Mapping[str, Any] = field(default_factory=dict)
    op_wise: Mapping[str, Any] = field(default_factory=dict)
    workspace: Path | None = None
    verbose: bool = False
    known_nats: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses limits that would end the search before it starts."""
        if self.max_trials < 1:
            raise InputError(f"max_trials: {self.max_trials} is too few; give 1 or more")
        if not 0.0 <= self.timeout_s < float("inf"):
            raise InputError(f"timeout: {self.timeout_s} is not a number of seconds; give 0 or more")


@dataclass(frozen=True)
class Task:
    """The model to tune and the means to judge it.

    Attributes:
        model: prepared fp32 model; its node names are the engine's operator names.
        inventory: the operators of `model`.
        ranges: measured ranges, shared by all trials.
        target: the deployment's kernels.
        loader: calibration images, for strategies that run them themselves.
        judge, divergence: see their types.
        refiner: improves every trial's model before it is judged; None leaves it as the engine has it.
        threads: how many models may be measured at once; results do not depend on it.
        progress: show progress bars.
        clock: seconds that never go back; what limits and reports the time of trials.
    """

    model: onnx.ModelProto
    inventory: Inventory
    ranges: RangeTable
    target: Target
    loader: CalibrationLoader
    judge: Judge
    divergence: Divergence
    refiner: Refiner | None = None
    threads: int = 1
    progress: bool = False
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Trial:
    """One quantized model that the engine tried.

    Attributes:
        number: from 1.
        accuracy: fraction of evaluation images that are right.
        decline: from fp32, a fraction, as the criterion measures it.
        met: whether the criterion holds and at least one weighted operator is an integer; a model that is
            fp32 throughout loses nothing and proves nothing.
        rules: range rules of its activations, most frequent first.
        per_channel: whether all its weights have one scale per output channel.
        fp32_operators: names of the quantizable operators that it left in fp32.
        duration_s: wall time of quantizing and judging, in seconds.
        refinement: what refining its model did; None where it was not refined.
        abandoned_after_images: where judging stopped because the criterion could no longer be met; `accuracy`
            is then an estimate. None: it was judged on all images.
    """

    number: int
    accuracy: float
    decline: float
    met: bool
    rules: tuple[str, ...]
    per_channel: bool
    fp32_operators: tuple[str, ...]
    duration_s: float
    refinement: RefineReport | None = None
    abandoned_after_images: int | None = None

    @property
    def activation_algorithm(self) -> str:
        """The range rules, joined by "+"."""
        return "+".join(self.rules) or "none"

    @property
    def description(self) -> str:
        """The trial in a few words."""
        fallback = f", {len(self.fp32_operators)} in fp32" if self.fp32_operators else ""
        granularity = "" if self.per_channel else ", per-tensor weights"
        refined = ", refined" if self.refinement is not None else ""
        return f"ranges {self.activation_algorithm}{refined}{granularity}{fallback}"


@dataclass(frozen=True)
class EngineResult:
    """What tuning found.

    Attributes:
        model: the accepted QDQ model; if none was, the most accurate that has an integer weighted operator.
        fp32: what it approximates, tensor by tensor: the prepared model, whose channels may have been moved.
        met: as in `Trial`.
        trial: the trial that made it.
        trials: all of them, in order.
        baseline: accuracy of the fp32 model, a fraction.
        fp32_operators: every compute operator that is not an integer in `model`, and why.
        sensitivity: operator name -> KL divergence saved by leaving it in fp32, where it was measured.
        stopped_by: "criterion", "trials", "timeout", or "exhausted" when the strategy proposed no more.
        warnings: what was asked for and had no effect, a line each.
        divergence_without: operator name -> divergence of `model` with that operator left in fp32 as well;
            None -> that of `model`.
        reused_trials: numbers of those that an earlier run had finished.
    """

    model: onnx.ModelProto
    fp32: onnx.ModelProto
    met: bool
    trial: Trial
    trials: tuple[Trial, ...]
    baseline: float
    fp32_operators: tuple[FloatOperator, ...]
    sensitivity: Mapping[str, float]
    stopped_by: str
    warnings: tuple[str, ...] = ()
    divergence_without: Callable[[str | None], float] | None = None
    reused_trials: tuple[int, ...] = ()
