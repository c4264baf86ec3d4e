"""`report.json` against its schema."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from quantize.criterion import Criterion
from quantize.metrics import Equality
from quantize.operators import FloatOperator
from quantize.portability import PairBound, Portability
from quantize.refine import PassReport, RefineReport
from quantize.refine.judge import Score
from quantize.report import ImageSetFacts, RunContext, build_report, report_text
from quantize.report.build import SCHEMA_PATH, SCHEMA_VERSION
from quantize.report.environment import package_versions, platform_facts
from quantize.target import TARGETS, TENSORRT


@dataclass(frozen=True)
class Trial:
    number: int = 1
    description: str = "everything int8"
    rules: tuple[str, ...] = ("minmax",)
    per_channel: bool = True
    fp32_operators: tuple[str, ...] = ()
    accuracy: float = 0.835
    met: bool = True
    duration_s: float = 4.5
    abandoned_after_images: int | None = None


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def context() -> RunContext:
    return RunContext(
        criterion=Criterion(),
        command=["run_tuning.sh", "--input_model=m.onnx"],
        configuration={"seed": 9, "path": Path("images"), "nothing": None, "share": np.float64(0.5)},
        seed=9,
        calibration=ImageSetFacts(100, "a" * 64, "val.txt"),
        evaluation=ImageSetFacts(400, "b" * 64, "val.txt"),
        overlap_images=0,
        trials=[Trial(), Trial(2, "broken", ("kl",), False, ("a",), math.nan, False, 1.0)],
        fp32_operators=[FloatOperator("a", "Conv", "sensitive")],
        packages=package_versions(),
        platform=platform_facts(),
        stages_s={"tune": 12.0, "verify": 3.0},
        refinement=RefineReport(
            effort="full",
            calibration_images=100,
            selection_images=50,
            rule="quantile",
            rules={"quantile": 0.01, "kl": math.nan},
            candidates={"quantile": 0.002},
            candidates_learnt={"quantile": 0.001},
            passes=(PassReport("gain", "applied", "divided by 0.97", Score(0.003, 0.9), Score(0.002, 1.0)),),
            before=Score(0.01, 0.9),
            after=Score(0.002, 1.0),
            duration_s=3.0,
        ),
        selection=ImageSetFacts(50, "c" * 64, "val.txt"),
        peak_memory_bytes=10**9,
        started_at="2026-01-02T03:04:05Z",
        transforms=[{"CenterCrop": {"size": 224}}],
        warnings=["from the run"],
    )


def test_the_schema_is_valid_and_describes_every_field(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    undescribed = []

    def visit(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                if not field.get("description"):
                    undescribed.append(f"{path}.{name}")
            for key, value in node.items():
                visit(value, f"{path}.{key}")
        elif isinstance(node, list):
            for value in node:
                visit(value, path)

    visit(schema, "")
    assert undescribed == []


@pytest.mark.parametrize("formats", [("QOperator", "QDQ"), ("QDQ",)])
def test_a_report_fits_the_schema(
    make_verification: Any, context: RunContext, schema: dict[str, Any], formats: tuple[str, ...]
) -> None:
    report = build_report(make_verification(formats=formats, warnings=("measured",)), context)
    jsonschema.validate(report, schema)
    jsonschema.validate(json.loads(report_text(report)), schema)
    assert set(report["models"]["int8"]) == set(formats)
    assert report["warnings"] == ["from the run", "measured"]
    assert report["verdict"]["passed"] is True
    assert report["models"]["int8"]["QDQ"]["decline"]["top1"]["outcomes"]["lost"] == 3
    assert [stage["name"] for stage in report["run"]["stages"]] == ["tune", "verify"]


def test_what_is_undefined_is_null(make_verification: Any, context: RunContext) -> None:
    report = build_report(make_verification(), context)
    good, failed = report["tuning"]["trials"]
    assert (failed["accuracy_fraction"], failed["decline_fraction"]) == (None, None)
    assert good["decline_fraction"] == pytest.approx((0.84 - 0.835) / 0.84)
    assert report["tuning"]["fp32_operators"] == [
        {"name": "a", "op_type": "Conv", "reason": "sensitive", "fallback": False}
    ]
    assert "NaN" not in report_text({"x": math.nan, "y": [math.inf, (1.0, "s")]})


def test_the_input_model_is_the_verified_one_unless_named(
    make_verification: Any, context: RunContext
) -> None:
    verified = build_report(make_verification(), context)["run"]["input_model"]
    assert verified == {"path": "fp32.onnx", "sha256": "0" * 64}
    named = copy.copy(context)
    object.__setattr__(named, "input_model", "zoo.onnx")
    object.__setattr__(named, "input_model_sha256", "c" * 64)
    assert build_report(make_verification(), named)["run"]["input_model"] == {
        "path": "zoo.onnx",
        "sha256": "c" * 64,
    }


def test_text_is_stable_and_ends_with_a_newline(make_verification: Any, context: RunContext) -> None:
    report = build_report(make_verification(), context)
    assert report_text(report) == report_text(dict(reversed(report.items())))
    assert report_text(report).endswith("}\n")


def test_a_field_too_many_or_too_few_is_noticed(
    make_verification: Any, context: RunContext, schema: dict[str, Any]
) -> None:
    report = build_report(make_verification(), context)
    for change in ({"extra": 1}, {"classes": "ten"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**report, **change}, schema)
    del report["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, schema)


def test_platform_facts_of_a_known_cpu(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n\nmodel name\t: Some CPU\n")
    facts = platform_facts(cpuinfo)
    assert (facts["cpu"], facts["cpu_features"]) == ("Some CPU", ["avx2", "avx512_vnni"])
    assert platform_facts(tmp_path / "absent")["cpu_features"] == []


def test_versions_of_what_is_installed() -> None:
    found = package_versions(["numpy", "surely-not-installed"])
    assert found == {"numpy": np.__version__}


def test_target_and_portability_are_in_the_report(
    make_verification: Any, context: RunContext, schema: dict[str, Any]
) -> None:
    found = Portability(Equality(400, 399, 0.5), PairBound(36, 17, ("conv",)))
    verification = make_verification(portability=found, target=TENSORRT, profile_ms={"Conv": 1.5})
    report = build_report(verification, context)
    jsonschema.Draft202012Validator(schema).validate(report)
    assert report["target"]["name"] == "tensorrt"
    assert report["target"]["activations"] == "int8 symmetric"
    assert report["models"]["fp32"]["profile_ms"] == {"Conv": 1.5}
    assert report["models"]["int8"]["QDQ"]["profile_ms"] is None
    assert report["models"]["int8"]["QDQ"]["portability"] == {
        "exact_on_every_cpu": False,
        "compared_images": 400,
        "equal_images": 399,
        "max_abs_difference": 0.5,
        "dense_operators": 36,
        "depthwise_operators": 17,
        "unbounded_operators": ["conv"],
    }


def test_every_target_fits_the_schema(
    make_verification: Any, context: RunContext, schema: dict[str, Any]
) -> None:
    for target in TARGETS.values():
        report = build_report(make_verification(target=target), context)
        jsonschema.Draft202012Validator(schema).validate(report)
        assert report["models"]["int8"]["QDQ"]["portability"]["exact_on_every_cpu"] is True
    assert schema["properties"]["target"]["properties"]["name"]["enum"] == list(TARGETS)
