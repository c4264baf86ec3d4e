"""What was measured about a model, taken from the report that names its very bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from calibration.regular import read_regular
from quantize.errors import InputError

# `report.json` in a folder of results, `NAME-report.json` beside a named one.
_REPORTS = "*report.json"

# Of 50,000 images and some thousand operators they have a few megabytes.
_REPORT_LIMIT_BYTES = 1 << 28

# Reports whose fields mean what is read here; a minor version only adds some.
_READABLE_MAJOR = "1"


@dataclass(frozen=True)
class Decline:
    """How much of an accuracy was lost, (fp32 - int8) / fp32, and its 95 % interval; None where undefined."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Evidence:
    """The measurements behind one int8 file.

    Attributes:
        report: the file they are from.
        passed, sentence: the verdict.
        kind: "QOperator" or "QDQ".
        images: how many accuracy was measured on.
        top1, top5, fp32_top1, fp32_top5: accuracies, fractions.
        top1_decline, top5_decline: relative.
        agreement, kl_nats: with the fp32 model.
        integer_weighted, weighted: operators with weights that run in integers, and all of them.
        speed_up: of one call, against fp32 in the same minutes.
        latency_ms, fp32_latency_ms: medians.
        latency_images: images in such a call.
        fp32_path, fp32_sha256, fp32_size_bytes: the model that it was made from.
        calibration_images: how many the scales were learnt from.
        overlap_images: how many of them accuracy was measured on as well.
        transforms: the preprocessing.
        packages: name → version.
        cpu, system: where it was measured.
        command: how the run was started.
    """

    report: Path
    passed: bool
    sentence: str
    kind: str
    images: int
    top1: float
    top5: float
    fp32_top1: float
    fp32_top5: float
    top1_decline: Decline
    top5_decline: Decline
    agreement: float
    kl_nats: float
    integer_weighted: int
    weighted: int
    speed_up: float
    latency_ms: float
    fp32_latency_ms: float
    latency_images: int
    fp32_path: str
    fp32_sha256: str
    fp32_size_bytes: int
    calibration_images: int
    overlap_images: int
    transforms: Sequence[Mapping[str, Any]]
    packages: Mapping[str, str]
    cpu: str
    system: str
    command: Sequence[str]


def find_evidence(model: Path, sha256: str, report: Path | None) -> Evidence:
    """Looks for the report of a model, by the model's hash.

    Args:
        model: the int8 file.
        sha256: of its content.
        report: the report; by default every report beside the model is tried.

    Raises:
        InputError: there is no report of this file, or it is none of ours.
    """
    if report is not None:
        found = _in_report(report, sha256)
        if found is None:
            raise InputError(
                f"--report {report}: is about other files than {model}; package what was measured"
            )
        return found
    for candidate in sorted(model.parent.glob(_REPORTS)):
        try:
            found = _in_report(candidate, sha256)
        except InputError:  # something else of this name, which nobody asked for
            continue
        if found is not None:
            return found
    raise InputError(
        f"{model}: no report beside it is about this file, so there is nothing measured to tell; tune again, "
        "or name its --report"
    )


def _in_report(path: Path, sha256: str) -> Evidence | None:
    try:
        text = read_regular(path, limit_bytes=_REPORT_LIMIT_BYTES, what="a report").decode()
        content = json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise InputError(
            f"--report {path}: cannot be read: {error.strerror or error}; give the report.json of a run"
        ) from error
    except InputError as error:
        raise InputError(f"--report {path}: {error}") from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or brackets without end
        raise InputError(f"--report {path}: is not JSON; give the report.json that tuning wrote") from error
    try:
        if str(content["schema_version"]).partition(".")[0] != _READABLE_MAJOR:
            raise ValueError(f"schema {content['schema_version']}")
        for kind, artefact in content["models"]["int8"].items():
            if artefact["sha256"] == sha256:
                return _evidence(path, content, kind, artefact)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"--report {path}: is not a report of this program, or of another version ({error!r}); tune again"
        ) from error
    return None


def _refuse_constant(name: str) -> NoReturn:
    """Python's reader knows numbers that JSON has not, and that no report of ours holds."""
    raise ValueError(f"{name} is no number of JSON")


def _evidence(path: Path, report: Mapping[str, Any], kind: str, artefact: Mapping[str, Any]) -> Evidence:
    fp32, run = report["models"]["fp32"], report["run"]
    accuracy, fp32_accuracy = artefact["accuracy"], fp32["accuracy"]
    return Evidence(
        report=path,
        passed=bool(report["verdict"]["passed"]),
        sentence=str(report["verdict"]["sentence"]),
        kind=kind,
        images=int(accuracy["images"]),
        top1=float(accuracy["top1_fraction"]),
        top5=float(accuracy["top5_fraction"]),
        fp32_top1=float(fp32_accuracy["top1_fraction"]),
        fp32_top5=float(fp32_accuracy["top5_fraction"]),
        top1_decline=_decline(artefact, "top1"),
        top5_decline=_decline(artefact, "top5"),
        agreement=float(artefact["agreement_fraction"]),
        kl_nats=float(artefact["kl_nats"]),
        integer_weighted=int(artefact["kernels"]["integer_weighted"]),
        weighted=int(artefact["kernels"]["weighted"]),
        speed_up=float(artefact["speed_up"]),
        latency_ms=float(artefact["latency"]["median_ms"]),
        fp32_latency_ms=float(fp32["latency"]["median_ms"]),
        latency_images=int(report["latency_images"]),
        fp32_path=str(fp32["path"]),
        fp32_sha256=str(fp32["sha256"]),
        fp32_size_bytes=int(fp32["size_bytes"]),
        calibration_images=int(report["images"]["calibration"]["count"]),
        overlap_images=int(report["images"]["overlap_count"]),
        transforms=list(report["images"]["transforms"]),
        packages={str(name): str(version) for name, version in run["packages"].items()},
        cpu=str(run["platform"]["cpu"]),
        system=str(run["platform"]["system"]),
        command=[str(word) for word in run["command"]],
    )


def _decline(artefact: Mapping[str, Any], metric: str) -> Decline:
    found = artefact["decline"][metric]["relative_fraction"]
    return Decline(
        *(None if found[name] is None else float(found[name]) for name in ("estimate", "low", "high"))
    )
