"""The main job, from an fp32 model and images to two verified int8 models and a verdict."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from quantize.conclusion import TuningResult, conclude
from quantize.config import Config, Format, load_config
from quantize.destination import Destination, plan_destination, staging
from quantize.diagnose.options import ReportOptions
from quantize.engine import EngineResult
from quantize.errors import InputError
from quantize.export import to_qoperator
from quantize.holding import held
from quantize.inputs import Inputs, read_inputs
from quantize.model import save_model
from quantize.provenance import provenance
from quantize.report import ImageSetFacts, RunContext
from quantize.report.environment import package_versions, platform_facts
from quantize.restart import refine_given
from quantize.search import search
from quantize.source import Source
from quantize.stages import Stages, Verbosity, peak_memory_bytes
from quantize.verify import Verification, verify


def tune(
    model: str | Path,
    config: str | Path | Mapping[str, Any] | Config,
    output_model: str | Path,
    *,
    dataset_location: str | Path | None = None,
    label_path: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
    keep_failed: bool = False,
    start_from: str | Path | None = None,
    profile: bool = False,
    verbosity: Verbosity = "quiet",
    report: ReportOptions | None = None,
) -> TuningResult:
    """Quantizes a classifier, as `run_tuning.sh` does.

    Args:
        model: the fp32 `.onnx` file.
        config: a configuration, the content of one, the file of one, or the name of one in `configs/`.
        output_model: a name ending in `.onnx`, or a folder.
        dataset_location: folder of the images, instead of all data paths of the configuration.
        label_path: image list, instead of those of the configuration.
        overrides: dotted field of the configuration -> value.
        keep_failed: keep the best model, under a name that says so, if none meets the criterion.
        start_from: a QDQ model of the same network that is refined instead of searching for one.
        profile: measure the time of each operator kind as well.
        verbosity: "quiet" prints nothing but the verdict.
        report: how the report is made.

    Raises:
        InputError: something given is wrong.
        EngineError: the engine or the runtime failed.
    """
    if verbosity not in get_args(Verbosity):
        raise InputError(f"verbosity {verbosity!r}: use one of {', '.join(get_args(Verbosity))}")
    config = _configuration(config)
    data = (None if path is None else Path(path) for path in (dataset_location, label_path))
    config = config.with_data(*data).with_overrides(dict(overrides or {}))
    return run_tune(
        config,
        input_model=Path(model),
        output_model=Path(output_model),
        verbosity=verbosity,
        keep_failed=keep_failed,
        start_from=None if start_from is None else Path(start_from),
        profile=profile,
        report=report,
    )


def _configuration(given: object) -> Config:
    if isinstance(given, Config):
        return given
    if isinstance(given, Mapping):
        return Config.from_mapping(given)
    if isinstance(given, str | Path):
        return load_config(given)
    raise InputError(
        f"config {given!r}: give a path, the name of a shipped configuration, a mapping or a Config"
    )


def run_tune(
    config: Config,
    *,
    input_model: Path,
    output_model: Path,
    verbosity: Verbosity = "normal",
    keep_failed: bool = False,
    start_from: Path | None = None,
    profile: bool = False,
    command: Sequence[str] = (),
    report: ReportOptions | None = None,
) -> TuningResult:
    """Runs the main job and prints its table and verdict.

    Args:
        config: a configuration with its overrides applied.
        input_model: as for `tune`.
        output_model: as for `tune`.
        verbosity: as for `tune`.
        keep_failed: as for `tune`.
        start_from: as for `tune`.
        profile: as for `tune`.
        command: how the run was started, for the report.
        report: how the report is made.
    """
    stages = Stages(verbosity)
    for warning in config.warnings:
        stages.say(f"warning: {warning}")
    destination = plan_destination(output_model, input_model, config.formats)
    with held(destination, config):
        return _run(
            config,
            stages,
            destination,
            input_model=input_model,
            keep_failed=keep_failed,
            start_from=start_from,
            profile=profile,
            command=command,
            report=report or ReportOptions(),
        )


def _run(
    config: Config,
    stages: Stages,
    destination: Destination,
    *,
    input_model: Path,
    keep_failed: bool,
    start_from: Path | None,
    profile: bool,
    command: Sequence[str],
    report: ReportOptions,
) -> TuningResult:
    """The main job in a folder that nobody else writes to; arguments as for `run_tune`."""
    started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    inputs = read_inputs(config, stages, input_model, start_from, report)
    found = _found(config, inputs, stages, start_from)
    with staging(destination) as folder:
        with stages.stage("write the models"):
            staged = _write(found, folder, destination, inputs.source, config)
        verification = _verified(config, inputs, stages, input_model, staged, profile=profile)
        diagnosis = inputs.inquiry.diagnose(found, stages)
        context = _context(config, inputs, stages, found=found, command=command, started_at=started_at)
        return conclude(
            verification,
            inputs.inquiry.told(context, diagnosis),
            destination,
            staged,
            keep_failed=keep_failed,
            verbosity=stages.verbosity,
            pages=inputs.inquiry.pages,
        )


def _found(config: Config, inputs: Inputs, stages: Stages, start_from: Path | None) -> EngineResult:
    """The model that is written: what the engine settles on, or what was given and is refined."""
    source, data, baseline, judged = inputs.source, inputs.data, inputs.baseline, inputs.judged
    if start_from is not None:
        return refine_given(
            config, source, data, stages, start_from, baseline=baseline, judged=judged, work=inputs.work
        )
    return search(
        config,
        source,
        data,
        stages,
        known_nats=inputs.inquiry.known_nats,
        baseline=baseline,
        judged=judged,
        work=inputs.work,
    )


def _verified(
    config: Config,
    inputs: Inputs,
    stages: Stages,
    input_model: Path,
    staged: Mapping[Format, Path],
    *,
    profile: bool,
) -> Verification:
    """What the written files measure up to, beside the fp32 model."""
    with stages.stage("verify"):
        verification = verify(
            input_model.absolute(),
            staged,
            inputs.data.evaluation,
            threads=config.thread_count,
            probabilities=inputs.source.signature.probabilities,
            target=config.target,
            profile=profile,
            observer=inputs.inquiry.watcher,
            baseline=inputs.baseline,
            judged=inputs.judged,
        )
        stages.count_images("verify", verification.images)
    return verification


def _write(
    found: EngineResult, folder: Path, destination: Destination, source: Source, config: Config
) -> dict[Format, Path]:
    """Writes the accepted model in each format into the staging folder."""
    spellings = {"QDQ": lambda: found.model, "QOperator": lambda: to_qoperator(found.model)}
    staged: dict[Format, Path] = {}
    for kind, final in destination.models.items():
        model = spellings[kind]()
        staged[kind] = folder / final.name
        facts = provenance(
            model, input_sha256=source.sha256, config_sha256=config.config_hash(), target=config.target.name
        )
        save_model(model, staged[kind], facts | {"quantize.format": kind})
    return staged


def _context(
    config: Config,
    inputs: Inputs,
    stages: Stages,
    *,
    found: EngineResult,
    command: Sequence[str],
    started_at: str,
) -> RunContext:
    """The facts of the run that its report tells beside the measurements."""
    source, data, digests = inputs.source, inputs.data, inputs.digests
    calibration, evaluation = data.calibration.images, data.evaluation.images
    judging = None if data.judging is None else data.judging.images
    selection = None
    if judging is not None and digests.selection is not None and found.trial.refinement is not None:
        selection = ImageSetFacts(len(judging), digests.selection, str(judging.root))
    return RunContext(
        criterion=config.criterion,
        command=command,
        configuration=config.to_dict(),
        seed=config.seed,
        calibration=ImageSetFacts(len(calibration), digests.calibration, str(calibration.root)),
        evaluation=ImageSetFacts(len(evaluation), digests.evaluation, str(evaluation.root)),
        overlap_images=data.overlap_images,
        soundness=data.soundness,
        trials=found.trials,
        fp32_operators=found.fp32_operators,
        stopped_by=found.stopped_by,
        refinement=found.trial.refinement,
        selection=selection,
        sensitivity_nats=found.sensitivity,
        input_model=str(source.path.absolute()),
        input_model_sha256=source.sha256,
        primary_format=config.primary_format,
        transforms=data.evaluation.pipeline.to_json(),
        packages=package_versions(),
        platform=platform_facts(),
        stages_s=stages.times_s,
        stage_images=stages.images,
        stage_peaks_bytes=stages.peaks_bytes,
        peak_memory_bytes=peak_memory_bytes(),
        started_at=started_at,
        reused_trials=found.reused_trials,
        reused_pieces=len(inputs.work.reused),
        reused_s=inputs.work.saved_s,
        warnings=(*config.warnings, *source.warnings, *data.warnings, *found.warnings, *stages.problems),
    )
