"""From a prepared model and images to the model that the engine settles on."""

from __future__ import annotations

import re

from quantize import engine
from quantize.baseline import Baseline
from quantize.config import Config
from quantize.data import Data
from quantize.engine import EngineOptions, EngineResult, Task, Trial
from quantize.judging import AccuracyJudge, CalibrationDivergence
from quantize.operators import Inventory
from quantize.ranges import RangeTable, collect_extremes, collect_histograms
from quantize.source import Source
from quantize.stages import Stages
from quantize.target import PORTABLE


def search(
    config: Config, source: Source, data: Data, stages: Stages, baseline: Baseline | None = None
) -> EngineResult:
    """Measures the ranges, then lets the engine tune.

    Raises:
        InputError: the configuration leaves nothing to quantize.
        EngineError: the engine or the runtime failed.
    """
    threads = config.thread_count
    tensors = list(
        dict.fromkeys(name for operator in source.inventory.quantizable for name in operator.tensors)
    )
    with stages.stage("measure the ranges"):
        extremes = collect_extremes(source.prepared, tensors, data.calibration, threads=threads)
    ranges = RangeTable(
        extremes, lambda: collect_histograms(source.prepared, extremes, data.calibration, threads=threads)
    )
    task = Task(
        model=source.prepared,
        inventory=source.inventory,
        ranges=ranges,
        target=PORTABLE,
        loader=data.calibration,
        judge=AccuracyJudge(
            data.evaluation,
            config.criterion,
            threads=threads,
            classes=source.signature.classes,
            baseline=baseline,
        ),
        divergence=CalibrationDivergence(
            source.prepared, data.calibration, threads=threads, probabilities=source.signature.probabilities
        ),
        progress=stages.shown,
    )

    def announce(trial: Trial) -> None:
        verb = "meets" if trial.met else "misses"
        accuracy = f"{config.criterion.metric_label} {trial.accuracy:.2%}"
        stages.say(f"trial {trial.number}: {trial.description}: {accuracy}, {verb} the criterion")

    with stages.stage("tune"):
        found = engine.tune(task, _options(config, source.inventory, stages), announce)
    for warning in found.warnings:
        stages.say(f"warning: {warning}")
    return found


def _options(config: Config, inventory: Inventory, stages: Stages) -> EngineOptions:
    restrictions = {
        re.escape(operator.name): config.restrictions(operator.name, operator.op_type)
        for operator in inventory.quantizable
    }
    return EngineOptions(
        criterion=config.criterion,
        strategy=config.tuning.strategy.name,
        max_trials=config.tuning.exit_policy.max_trials,
        timeout_s=config.tuning.exit_policy.timeout,
        seed=config.seed,
        calibration_samples=config.calibration_count,
        op_wise={name: allowed for name, allowed in restrictions.items() if allowed},
        workspace=config.tuning.workspace.path,
        verbose=stages.verbosity == "verbose",
    )
