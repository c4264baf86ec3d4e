"""`report.json`: the verification and the run around it as plain JSON values, described by `schema.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quantize.benchmark import Latency
from quantize.kernels import Coverage
from quantize.metrics import Counts
from quantize.portability import Portability
from quantize.report.causes import diagnosis_json
from quantize.report.context import ImageSetFacts, RunContext, TrialLike
from quantize.report.refinement import refinement_json
from quantize.report.verdict import judge
from quantize.statistics import Interval
from quantize.target import Target
from quantize.throughput import Throughput
from quantize.verify import Artefact, Decline, FileFacts, Verification, accuracy

# Major: a field changed its meaning or went away. Minor: fields were added.
SCHEMA_VERSION = "1.2"
SCHEMA_PATH = Path(__file__).with_name("schema.json")

Json = dict[str, Any]

_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def build_report(verification: Verification, context: RunContext) -> Json:
    """Put everything together; the fields and their units are described in `schema.json`.

    Returns:
        Plain JSON values. Numbers that are not finite (undefined intervals, failed trials) are None.
    """
    verdict = judge(verification, context.criterion, context.fp32_operators, stopped_by=context.stopped_by)
    report = {
        "schema_version": SCHEMA_VERSION,
        "verdict": {"passed": verdict.passed, "sentence": verdict.sentence},
        "criterion": {
            "kind": context.criterion.kind,
            "metric": context.criterion.metric,
            "tolerance_fraction": context.criterion.tolerance,
        },
        "models": {
            "fp32": _file(verification.fp32),
            "int8": {name: _artefact(artefact) for name, artefact in verification.artefacts.items()},
            "primary_format": context.primary_format,
            "formats_equality": _equality(verification),
        },
        "target": _target(verification.target),
        "latency_rounds": verification.latency_rounds,
        "latency_images": verification.latency_images,
        "throughput": _throughput(verification.throughput),
        "classes": verification.classes,
        "images": _images(context),
        "tuning": {
            "trials": [_trial(trial, verification, context) for trial in context.trials],
            "fp32_operators": [dataclasses.asdict(operator) for operator in context.fp32_operators],
            "sensitivity_nats": dict(context.sensitivity_nats),
            "stopped_by": context.stopped_by,
            "refinement": refinement_json(context.refinement),
        },
        "run": _run(verification, context),
        "warnings": [*context.warnings, *verification.warnings],
        "diagnosis": None if context.diagnosis is None else diagnosis_json(context.diagnosis),
    }
    finite: Json = _finite(report)
    return finite


def report_text(report: Mapping[str, Any]) -> str:
    """The report as text, with sorted keys so that two can be compared line by line; no NaN or infinity."""
    text = json.dumps(_finite(report), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is no UTF-8 holds halves of surrogate pairs, which JSON can spell and UTF-8 cannot.
    return _HALF_SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _file(facts: FileFacts) -> Json:
    return {
        "path": str(facts.path),
        "sha256": facts.sha256,
        "size_bytes": facts.size_bytes,
        "accuracy": _counts(facts.counts),
        "kernels": _kernels(facts.coverage),
        "declared_kernels": None if facts.declared is None else _kernels(facts.declared),
        "latency": _latency(facts.latency),
        "profile_ms": None if facts.profile_ms is None else dict(facts.profile_ms),
    }


def _counts(counts: Counts) -> Json:
    return {
        "images": counts.images,
        "top1_correct": counts.top1_correct,
        "top5_correct": counts.top5_correct,
        "top1_ties": counts.top1_ties,
        "top1_fraction": counts.top1,
        "top5_fraction": counts.top5,
    }


def _kernels(coverage: Coverage) -> Json:
    return {
        "integer": dict(coverage.integer),
        "floating": dict(coverage.floating),
        "quantize": coverage.quantize,
        "dequantize": coverage.dequantize,
        "weighted": coverage.weighted,
        "integer_weighted": coverage.integer_weighted,
        "float_weighted_operators": list(coverage.float_weighted_operators),
    }


def _latency(latency: Latency) -> Json:
    return {
        "calls": latency.calls,
        "median_ms": latency.median_ms,
        "p90_ms": latency.p90_ms,
        "p99_ms": latency.p99_ms,
    }


def _artefact(artefact: Artefact) -> Json:
    return {
        **_file(artefact.facts),
        "decline": {"top1": _decline(artefact.top1), "top5": _decline(artefact.top5)},
        "agreement_fraction": artefact.fidelity.agreement,
        "kl_nats": artefact.fidelity.kl,
        "speed_up": artefact.speed_up,
        "portability": _portability(artefact.portability),
    }


def _throughput(throughput: Throughput | None) -> Json | None:
    return None if throughput is None else dataclasses.asdict(throughput)


def _target(target: Target) -> Json:
    return {
        "name": target.name,
        "exact": target.exact,
        "on_cpu": target.on_cpu,
        "dense_weight_bits": target.dense_weight_bits,
        "pair_saturation": target.pair_saturation,
        "activations": "int8 symmetric" if target.signed_activations else "uint8 asymmetric",
    }


def _portability(portability: Portability) -> Json:
    equality, bound = portability.equality, portability.bound
    return {
        "exact_on_every_cpu": portability.exact if equality.images else None,
        "compared_images": equality.images,
        "equal_images": equality.equal_images,
        "max_abs_difference": equality.max_abs_difference,
        "dense_operators": bound.checked,
        "depthwise_operators": bound.exempt,
        "unbounded_operators": list(bound.unbounded),
    }


def _decline(decline: Decline) -> Json:
    outcomes = decline.outcomes
    return {
        "outcomes": {
            "both": outcomes.both,
            "lost": outcomes.lost,
            "won": outcomes.won,
            "neither": outcomes.neither,
        },
        "absolute_fraction": _interval(decline.absolute),
        "relative_fraction": _interval(decline.relative),
        "mcnemar_p_value": decline.p_value,
    }


def _interval(interval: Interval) -> Json:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def _equality(verification: Verification) -> Json | None:
    equality = verification.formats_equality
    if equality is None:
        return None
    return {
        "images": equality.images,
        "equal_images": equality.equal_images,
        "max_abs_difference": equality.max_abs_difference,
        "bit_equal": equality.bit_equal,
    }


def _images(context: RunContext) -> Json:
    def facts(images: ImageSetFacts) -> Json:
        return {"count": images.images, "sha256": images.sha256, "source": images.source}

    return {
        "calibration": facts(context.calibration),
        "evaluation": facts(context.evaluation),
        "selection": None if context.selection is None else facts(context.selection),
        "overlap_count": context.overlap_images,
        "skipped": context.soundness.to_json(),
        "transforms": context.transforms,
    }


def _trial(trial: TrialLike, verification: Verification, context: RunContext) -> Json:
    baseline = accuracy(verification.fp32, context.criterion.metric)
    return {
        "number": trial.number,
        "description": trial.description,
        "activation_algorithms": list(trial.rules),
        "per_channel": trial.per_channel,
        "fp32_operators": list(trial.fp32_operators),
        "accuracy_fraction": trial.accuracy,
        "decline_fraction": context.criterion.decline(baseline, trial.accuracy),
        "met": trial.met,
        "duration_s": trial.duration_s,
        "abandoned_after_images": trial.abandoned_after_images,
    }


def _run(verification: Verification, context: RunContext) -> Json:
    return {
        "command": list(context.command),
        "started_at": context.started_at,
        "seed": context.seed,
        "configuration": context.configuration,
        "input_model": {
            "path": context.input_model or str(verification.fp32.path),
            "sha256": context.input_model_sha256 or verification.fp32.sha256,
        },
        "packages": dict(context.packages),
        "platform": dict(context.platform),
        "stages": [_stage(name, seconds, context) for name, seconds in context.stages_s.items()],
        "peak_memory_bytes": context.peak_memory_bytes,
        "reused": {
            "trials": list(context.reused_trials),
            "pieces": context.reused_pieces,
            "saved_s": context.reused_s,
        },
    }


def _stage(name: str, wall_s: float, context: RunContext) -> Json:
    images = context.stage_images.get(name)
    return {
        "name": name,
        "wall_s": wall_s,
        "images": images,
        "images_per_s": images / wall_s if images and wall_s > 0 else None,
        "peak_memory_bytes": context.stage_peaks_bytes.get(name),
    }


def _finite(value: Any) -> Any:
    """Plain JSON values: mappings and sequences copied, numbers that are not finite replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
