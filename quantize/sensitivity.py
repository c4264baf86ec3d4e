"""The command `sensitivity`: what quantizing each operator costs; it resumes where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.progress import track
from quantize.config import Config
from quantize.data import Data, check_data, list_data
from quantize.diagnose.ablation import Writer, ablate, whole_model
from quantize.diagnose.probe import Probe
from quantize.diagnose.record import Record, read_record, write_record
from quantize.errors import InputError
from quantize.export import to_qoperator
from quantize.files import atomic_write_text
from quantize.printable import printable
from quantize.qdq import Plan, write_qdq
from quantize.ranges import EXTREME_RULES, RangeTable, collect_extremes, collect_histograms
from quantize.report.environment import package_versions
from quantize.report.ranking import show_ranking
from quantize.source import Source, read_source
from quantize.stages import Stages, Verbosity
from quantize.target import PORTABLE

# Versions that change figures; others do not make a measurement another one.
_TELLING_PACKAGES = ("numpy", "onnxruntime", "pillow", "opencv-python-headless")


def run_sensitivity(
    config: Config,
    *,
    input_model: Path,
    output: Path | None = None,
    samples: int = 64,
    restart: bool = False,
    as_json: bool = False,
    verbosity: Verbosity = "normal",
) -> int:
    """Measures every operator, writes the record and its chart, and prints the ranking.

    Args:
        config: a configuration with its overrides applied.
        input_model: the fp32 model.
        output: the record, a name ending in .json; `NAME-sensitivity.json` in the working directory if None.
        samples: calibration images to measure on.
        restart: forget what the record holds.
        as_json: print the record instead of the table.
        verbosity: "quiet" prints no progress.

    Returns:
        The exit code.

    Raises:
        InputError: something given is wrong, or the record is of another measurement.
        EngineError: the runtime failed.
    """
    stages = Stages(verbosity)
    path = _output(output, input_model)
    for warning in config.warnings:
        stages.say(f"warning: {warning}")
    source = read_source(input_model, config)
    listed = list_data(config, source.signature, progress=False)
    data = check_data(listed, config, source.signature, only_calibration=True)
    for warning in (*source.warnings, *data.warnings):
        stages.say(f"warning: {warning}")
    probe = Probe(
        source.prepared,
        data.calibration,
        samples,
        threads=config.thread_count,
        probabilities=source.signature.probabilities,
    )
    operators = _operators(config, source)
    settings = _settings(source, data, probe, operators)
    record = _begun(path, settings, restart, stages)
    if not record.complete:
        models = _Models(source, data, config.thread_count)
        record = _measure(record, path, operators, models, probe, progress=stages.shown)
    chart = _draw(record, path)
    if as_json:
        print(json.dumps(record.to_json(), indent=2, allow_nan=False))
    else:
        show_ranking(record)
        print(printable(f"wrote {path}"))
        print(printable(f"wrote {chart}"))
    return 0


def _output(output: Path | None, input_model: Path) -> Path:
    path = Path.cwd() / f"{input_model.stem}-sensitivity.json" if output is None else output.absolute()
    if path.suffix.lower() != ".json":
        raise InputError(f"--output {output}: give a name that ends in .json; the chart goes beside it")
    if not path.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise InputError(f"--output {output}: is a folder; name a file in it")
    return path


def _operators(config: Config, source: Source) -> dict[str, str]:
    """Name -> type, of the operators that the configuration allows to be integers."""
    found = {
        operator.name: operator.op_type
        for operator in source.inventory.quantizable
        if not config.keeps_in_fp32(operator.name, operator.op_type)
    }
    if not found:
        raise InputError("op_wise and optype_wise keep every operator in fp32; nothing is left to measure")
    return found


def _settings(source: Source, data: Data, probe: Probe, operators: Mapping[str, str]) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "model": source.path.name,
        "model_sha256": source.sha256,
        "calibration_sha256": data.calibration.images.digest(),
        "calibration_images": len(data.calibration.images),
        "measured_images": probe.image_count,
        "transforms": data.calibration.pipeline.to_json(),
        "exif_orientation": data.calibration.exif_orientation,
        "operators": len(operators),
        "target": PORTABLE.name,
        "packages": package_versions(_TELLING_PACKAGES),
    }


def _begun(path: Path, settings: Mapping[str, Any], restart: bool, stages: Stages) -> Record:
    """What the record holds already, or a new one."""
    # As the file will spell them: tuples are lists there.
    wanted: dict[str, Any] = json.loads(json.dumps(settings))
    if restart or not path.exists():
        return Record(wanted)
    found = read_record(path, "--output")
    changed = [key for key in wanted if found.settings.get(key) != wanted[key]]
    if changed:
        key = changed[0]
        raise InputError(
            f"--output {path}: was measured with other settings ({key}); name another file, or give --restart"
        )
    done = f"{len(found.operators)} of {wanted['operators']} operators"
    stages.say(f"{path}: {done} are measured" + ("" if found.complete else "; going on"))
    return found


class _Models:
    """Makes the models that are compared."""

    def __init__(self, source: Source, data: Data, threads: int) -> None:
        self._source = source
        tensors = list(dict.fromkeys(name for one in source.inventory.quantizable for name in one.tensors))
        extremes = collect_extremes(source.prepared, tensors, data.calibration, threads=threads)
        self._ranges = RangeTable(
            extremes,
            lambda: collect_histograms(source.prepared, extremes, data.calibration, threads=threads),
        )

    def writer(self, rule: str) -> Writer:
        """Writes models whose scales follow a rule."""
        scales = {tensor: self._ranges.scale(tensor, rule) for tensor in self._ranges.extremes.lows}
        source = self._source

        def write(operators: Any) -> Any:
            plan = Plan(dict.fromkeys(operators, True), scales)
            # The QOperator spelling, because ONNX Runtime has nothing left to decide about it.
            return to_qoperator(write_qdq(source.prepared, source.inventory, plan, PORTABLE))

        return write


def _measure(
    record: Record,
    path: Path,
    operators: Mapping[str, str],
    models: _Models,
    probe: Probe,
    *,
    progress: bool,
) -> Record:
    """Measures what is missing; the file holds what is known after every operator."""
    # The rule that the search would try first: the least divergence of those that need no histograms.
    trials = {rule: whole_model(list(operators), models.writer(rule), probe) for rule in EXTREME_RULES}
    rule = min(trials, key=lambda name: trials[name].kl_nats)
    record = dataclasses.replace(
        record, rule=rule, fp32_top1_fraction=probe.fp32_counts().top1, int8=trials[rule]
    )
    known = {one.name: one for one in record.operators}
    missing = len(operators) - len(known)
    steps = ablate(operators, known, models.writer(rule), probe)
    for one in track(
        steps, description="measuring sensitivity", total=missing, unit="operators", enabled=progress
    ):
        known[one.name] = one
        record = record.with_operators(known.values(), complete=len(known) == len(operators))
        write_record(record, path)
    return record


def _draw(record: Record, path: Path) -> Path:
    from quantize.report.charts.sensitivity import sensitivity_chart
    from quantize.report.charts.style import standalone

    chart = path.with_suffix(".svg")
    atomic_write_text(chart, standalone(sensitivity_chart(record)))
    return chart
