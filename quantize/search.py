"""From a prepared model and images to the model that the engine settles on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from quantize import engine
from quantize.baseline import Baseline
from quantize.config import Config
from quantize.data import Data
from quantize.engine import EngineOptions, EngineResult, Task, Trial
from quantize.judged import JudgedOutputs
from quantize.judging import Abandonment, AccuracyJudge, CalibrationDivergence
from quantize.measuring import measure_ranges
from quantize.operators import Inventory
from quantize.refine import AUTO
from quantize.refining import begin_refinement
from quantize.report.refinement import refinement_lines
from quantize.source import Source
from quantize.stages import Stages
from quantize.work import Work


def search(
    config: Config,
    source: Source,
    data: Data,
    stages: Stages,
    *,
    known_nats: Mapping[str, float] | None = None,
    baseline: Baseline | None = None,
    judged: JudgedOutputs | None = None,
    work: Work | None = None,
) -> EngineResult:
    """Measures the ranges, then lets the engine tune.

    Args:
        config: the configuration.
        source: the model.
        data: the images.
        stages: where to say what is going on.
        known_nats: as in `EngineOptions`.
        baseline: knows what the fp32 model says about the evaluation images.
        judged: remembers what the last trial's model says about them.
        work: where what is finished is kept.

    Raises:
        InputError: the configuration leaves nothing to quantize.
        EngineError: the engine or the runtime failed.
    """
    threads = config.thread_count
    work = Work.forgotten() if work is None else work
    ranges = measure_ranges(config, source, data, stages, work)
    judge = make_judge(config, source, data, baseline, work, judged=judged)
    source, ranges, refiner = begin_refinement(config, source, data, ranges, stages, work=work)
    needed = {"accuracy"} if refiner is None else {"accuracy", "refinement"}
    reused: list[int] = []
    task = Task(
        model=source.prepared,
        inventory=source.inventory,
        ranges=ranges,
        target=config.target,
        loader=data.calibration,
        judge=judge,
        divergence=CalibrationDivergence(
            source.prepared, data.calibration, threads=threads, probabilities=source.signature.probabilities
        ),
        refiner=refiner,
        threads=threads,
        progress=stages.shown,
        clock=work.clock,
    )

    def announce(trial: Trial) -> None:
        if needed <= set(work.taken()):
            reused.append(trial.number)
        abandoned_after = judge.abandoned.get(trial.number)
        say_trial(trial, config, stages, abandoned_after=abandoned_after, reused=trial.number in reused)

    with stages.stage("tune"):
        options = _options(config, source.inventory, stages, known_nats or {}, refined=refiner is not None)
        found = engine.tune(task, options, announce)
        stages.count_images("tune", judge.judged_images)
    for warning in found.warnings:
        stages.say(f"warning: {warning}")
    return replace(_with_abandoned(found, judge), reused_trials=tuple(reused))


def make_judge(
    config: Config,
    source: Source,
    data: Data,
    baseline: Baseline | None,
    work: Work,
    *,
    judged: JudgedOutputs | None = None,
) -> AccuracyJudge:
    """What judges models on the evaluation images, as configured."""
    confidence = config.tuning.exit_policy.abandon_confidence
    return AccuracyJudge(
        data.evaluation,
        config.criterion,
        threads=config.thread_count,
        classes=source.signature.classes,
        baseline=baseline,
        abandonment=Abandonment(confidence, config.seed) if confidence < 1.0 else None,
        judged=judged,
        work=work,
    )


def _with_abandoned(found: EngineResult, judge: AccuracyJudge) -> EngineResult:
    """The same result, whose trials say on how many images those were judged that were given up."""

    def told(trial: Trial) -> Trial:
        return replace(trial, abandoned_after_images=judge.abandoned.get(trial.number))

    return replace(found, trial=told(found.trial), trials=tuple(map(told, found.trials)))


def say_trial(
    trial: Trial,
    config: Config,
    stages: Stages,
    *,
    abandoned_after: int | None = None,
    reused: bool = False,
) -> None:
    """Tells what came of a trial, and with `--verbose` of each pass of its refinement."""
    verb = "meets" if trial.met else "misses"
    accuracy = f"{config.criterion.metric_label} {trial.accuracy:.2%}"
    if abandoned_after is not None:
        accuracy += f" (about; abandoned after {abandoned_after} images)"
    if trial.refinement is not None:
        *passes, whole = refinement_lines(trial.refinement)
        for line in passes if stages.verbosity == "verbose" else ():
            stages.say(line)
        stages.say(whole)
    finished = " (finished by an earlier run)" if reused else ""
    stages.say(f"trial {trial.number}: {trial.description}: {accuracy}, {verb} the criterion{finished}")


def _options(
    config: Config,
    inventory: Inventory,
    stages: Stages,
    known_nats: Mapping[str, float],
    *,
    refined: bool,
) -> EngineOptions:
    restrictions = {
        re.escape(operator.name): config.restrictions(operator.name, operator.op_type)
        for operator in inventory.quantizable
    }
    if refined:
        for allowed in restrictions.values():
            activation = allowed.setdefault("activation", {})
            if activation.get("dtype") != ["fp32"]:
                activation.setdefault("algorithm", [config.refine.ranges])
    else:
        for allowed in restrictions.values():
            _forget_auto(allowed)
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
        known_nats=known_nats,
    )


def _forget_auto(allowed: dict[str, dict[str, list[str]]]) -> None:
    """Without refinement nothing chooses a rule, so that "auto" leaves the choice to the engine."""
    rules = allowed.get("activation", {}).get("algorithm", [])
    if AUTO in rules:
        allowed["activation"]["algorithm"] = [rule for rule in rules if rule != AUTO]
