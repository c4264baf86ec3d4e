"""From a prepared model and images to the model that the engine settles on."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice

import numpy as np

from quantize import engine
from quantize.baseline import Baseline
from quantize.config import Config
from quantize.data import Data
from quantize.engine import EngineOptions, EngineResult, Task, Trial
from quantize.judging import Abandonment, AccuracyJudge, CalibrationDivergence
from quantize.operators import Inventory
from quantize.ranges import RangeTable, collect_extremes, collect_histograms
from quantize.ranges.collect import each_alone
from quantize.refine import AUTO, Network, RefineOptions, Refiner
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
    refiner = _refiner(config, source, data, ranges, stages)
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
        refiner=refiner,
        progress=stages.shown,
    )

    def announce(trial: Trial) -> None:
        verb = "meets" if trial.met else "misses"
        accuracy = f"{config.criterion.metric_label} {trial.accuracy:.2%}"
        seen = judge.abandoned.get(trial.number)
        early = f" (about; abandoned after {seen} images)" if seen is not None else ""
        stages.say(f"trial {trial.number}: {trial.description}: {accuracy}{early}, {verb} the criterion")

    with stages.stage("tune"):
        found = engine.tune(
            task, _options(config, source.inventory, stages, refined=refiner is not None), announce
        )
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


# So many images teach the passes as much as more would (DESIGN: "200 instead of 100 images: nothing beyond
# the noise"); ranges are measured on all of them. The limit keeps memory flat.
_REFINE_IMAGE_COUNT = 128


def _refiner(
    config: Config, source: Source, data: Data, ranges: RangeTable, stages: Stages
) -> Refiner | None:
    """The refinement that the configuration asks for; None for none."""
    wanted = config.refine
    if wanted.effort == "none":
        return None
    if data.judging is None:
        stages.say("warning: too few images to choose between variants; the model is not refined")
        return None
    options = RefineOptions(
        effort=wanted.effort,
        ranges=wanted.ranges,
        equalize=wanted.equalize,
        weights=wanted.weights,
        biases=wanted.biases,
        gain=wanted.gain,
        seed=config.seed,
    )
    network = Network(source.prepared, source.inventory, PORTABLE, source.signature.probabilities)
    with stages.stage("read images to refine on"):
        learnt = list(islice(each_alone(data.calibration, source.prepared), _REFINE_IMAGE_COUNT))
        judging = [image for images, _ in data.judging for image in np.split(images, len(images))]
    return Refiner(network, ranges, learnt, judging, options, threads=config.thread_count)


def _options(config: Config, inventory: Inventory, stages: Stages, *, refined: bool) -> EngineOptions:
    restrictions = {
        re.escape(operator.name): config.restrictions(operator.name, operator.op_type)
        for operator in inventory.quantizable
    }
    for allowed in restrictions.values():
        activation = allowed.setdefault("activation", {})
        given = [
            rule for rule in activation.get("algorithm", [config.refine.ranges]) if refined or rule != AUTO
        ]
        if given and activation.get("dtype") != ["fp32"]:
            activation["algorithm"] = given
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
