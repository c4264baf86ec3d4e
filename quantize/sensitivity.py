"""The command `sensitivity`: what quantizing each operator costs; it resumes where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.progress import track
from quantize.ablated import Begun, begin
from quantize.config import Config
from quantize.data import Data, check_data, list_data
from quantize.diagnose.ablation import ablate
from quantize.diagnose.probe import Probe
from quantize.diagnose.record import Record, read_record, write_record
from quantize.errors import InputError
from quantize.files import atomic_write_text
from quantize.printable import printable
from quantize.refine import Network
from quantize.report.environment import package_versions
from quantize.report.ranking import show_ranking
from quantize.source import Source, read_source
from quantize.stages import Stages, Verbosity

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
    data = check_data(listed, config, source.signature, evaluated=False)
    for warning in (*source.warnings, *data.warnings):
        stages.say(f"warning: {warning}")
    probe = Probe(
        source.prepared,
        data.calibration,
        samples,
        threads=config.thread_count,
        probabilities=source.signature.probabilities,
        config_entries=Network(source.prepared, source.inventory, config.target).session_entries,
    )
    operators = _operators(config, source)
    settings = _settings(config, source, data, probe, operators)
    record = _begun(path, settings, restart, stages)
    if not record.complete:
        begun = begin(config, source, data, stages, operators=operators, probe=probe)
        record = _measure(record, path, operators, begun, probe=probe, stages=stages)
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


def _settings(
    config: Config, source: Source, data: Data, probe: Probe, operators: Mapping[str, str]
) -> dict[str, Any]:
    """What the figures depend on."""
    refine = config.refine.model_dump(mode="json")
    judging = None if data.judging is None else data.judging.images.digest()
    return {
        "model": source.path.name,
        "model_sha256": source.sha256,
        "calibration_sha256": data.calibration.images.digest(),
        "calibration_images": len(data.calibration.images),
        "measured_images": probe.image_count,
        "transforms": data.calibration.pipeline.to_json(),
        "exif_orientation": data.calibration.exif_orientation,
        "operators": len(operators),
        "target": config.target.name,
        # Of a plain model, nothing but that it is one.
        "refine": {"effort": "none"} if refine["effort"] == "none" else {**refine, "seed": config.seed},
        "selection_sha256": None if refine["effort"] == "none" else judging,
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


def _measure(
    record: Record, path: Path, operators: Mapping[str, str], begun: Begun, *, probe: Probe, stages: Stages
) -> Record:
    """Measures what is missing; the file holds what is known after every operator."""
    if record.int8 not in (None, begun.effect):
        stages.say("the whole model does something else than when this began (another CPU?); beginning again")
        record = Record(record.settings)
    record = dataclasses.replace(
        record, rule=begun.rule, fp32_top1_fraction=probe.fp32_counts().top1, int8=begun.effect
    )
    known = {one.name: one for one in record.operators}
    missing = len(operators) - len(known)
    steps = ablate(operators, known, begun.models, probe)
    for one in track(
        steps, description="measuring sensitivity", total=missing, unit="operators", enabled=stages.shown
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
