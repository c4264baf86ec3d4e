"""From a prepared model and images to the model that the engine settles on."""

from __future__ import annotations

import re
from dataclasses import replace

from quantize import engine
from quantize.baseline import Baseline
from quantize.config import Config
from quantize.data import Data
from quantize.engine import EngineOptions, EngineResult, Task, Trial
from quantize.judging import Abandonment, AccuracyJudge, CalibrationDivergence
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
        stages.count_images("measure the ranges", len(data.calibration.images))
    ranges = RangeTable(
        extremes, lambda: collect_histograms(source.prepared, extremes, data.calibration, threads=threads)
    )
    judge = _judge(config, source, data, baseline)
    task = Task(
        model=source.prepared,
        inventory=source.inventory,
        ranges=ranges,
        target=PORTABLE,
        loader=data.calibration,
        judge=judge,
        divergence=CalibrationDivergence(
            source.prepared, data.calibration, threads=threads, probabilities=source.signature.probabilities
        ),
        progress=stages.shown,
    )

    def announce(trial: Trial) -> None:
        verb = "meets" if trial.met else "misses"
        accuracy = f"{config.criterion.metric_label} {trial.accuracy:.2%}"
        seen = judge.abandoned.get(trial.number)
        early = f" (about; abandoned after {seen} images)" if seen is not None else ""
        stages.say(f"trial {trial.number}: {trial.description}: {accuracy}{early}, {verb} the criterion")

    with stages.stage("tune"):
        found = engine.tune(task, _options(config, source.inventory, stages), announce)
        stages.count_images("tune", judge.judged_images)
    for warning in found.warnings:
        stages.say(f"warning: {warning}")
    return _with_abandoned(found, judge)


def _judge(config: Config, source: Source, data: Data, baseline: Baseline | None) -> AccuracyJudge:
    confidence = config.tuning.exit_policy.abandon_confidence
    return AccuracyJudge(
        data.evaluation,
        config.criterion,
        threads=config.thread_count,
        classes=source.signature.classes,
        baseline=baseline,
        abandonment=Abandonment(confidence, config.seed) if confidence < 1.0 else None,
    )


def _with_abandoned(found: EngineResult, judge: AccuracyJudge) -> EngineResult:
    """The same result, whose trials say on how many images those were judged that were given up."""

    def told(trial: Trial) -> Trial:
        return replace(trial, abandoned_after_images=judge.abandoned.get(trial.number))

    return replace(found, trial=told(found.trial), trials=tuple(map(told, found.trials)))


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
