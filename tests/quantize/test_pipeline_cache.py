"""The cache in the main job: it saves work, changes nothing that comes out, and never makes a run fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quantize
from calibration import prepared
from calibration.store import Store
from quantize.demo import run_demo
from quantize.demo_data import DigitsDataset
from quantize.diagnose.options import ReportOptions
from quantize.pipeline import TuningResult

MODEL = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits-mobilenetv2.onnx"
CALIBRATION, EVALUATION = 20, 60
Tune = Callable[..., TuningResult]


@pytest.fixture
def tune(digits: DigitsDataset, tmp_path: Path) -> Tune:
    root = "dataloader.dataset.ImageFolder.root"
    overrides = {
        f"quantization.calibration.{root}": digits.calibration,
        f"evaluation.accuracy.{root}": digits.evaluation,
        "quantization.calibration.sampling_size": CALIBRATION,
        "evaluation.accuracy.sampling_size": EVALUATION,
        "cache.dir": tmp_path / "cache",
        "refine.effort": "none",
    }

    # Pages and what is found out for them alone take several times as long as all the rest.
    def run(name: str, *, pages: bool = False, **changes: object) -> TuningResult:
        given = {key.replace("__", "."): value for key, value in changes.items()}
        return quantize.tune(
            MODEL,
            "demo_digits.yaml",
            tmp_path / name,
            overrides={**overrides, **given},
            report=ReportOptions(pages=pages),
        )

    return run


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = prepared.decoded

    def noting(path: Path, **settings: Any) -> Any:
        seen.append(str(path))
        return real(path, **settings)

    monkeypatch.setattr(prepared, "decoded", noting)
    return seen


def models(result: TuningResult) -> dict[str, bytes]:
    return {kind: path.read_bytes() for kind, path in result.models.items()}


def test_every_image_is_decoded_once_and_the_next_run_decodes_none(tune: Tune, decoded: list[str]) -> None:
    cold = tune("cold", pages=True)
    assert len(decoded) == len(set(decoded)) == CALIBRATION + EVALUATION
    warm = tune("warm", pages=True)
    assert len(decoded) == CALIBRATION + EVALUATION
    assert models(cold) == models(warm)
    for part in ("accuracy", "sha256"):
        assert cold.report["models"]["fp32"][part] == warm.report["models"]["fp32"][part]
        assert cold.report["models"]["int8"]["QDQ"][part] == warm.report["models"]["int8"]["QDQ"][part]


def test_neither_cache_nor_threads_change_a_byte(tune: Tune, decoded: list[str]) -> None:
    one = tune("one", cache__enabled=False, threads=1)
    assert len(decoded) > CALIBRATION + EVALUATION  # without a cache every pass decodes
    three = tune("three", threads=3)
    assert models(one) == models(three)
    assert one.report["models"]["int8"]["QDQ"]["kl_nats"] == three.report["models"]["int8"]["QDQ"]["kl_nats"]


@pytest.mark.parametrize("what", ["cannot be made", "is too small"])
def test_a_cache_that_fails_is_a_warning(tune: Tune, tmp_path: Path, what: str) -> None:
    expected = models(tune("plain"))
    (tmp_path / "file").touch()
    if what == "cannot be made":
        result = tune("failing", cache__dir=tmp_path / "file" / "cache")
        words = "cannot be written"
    else:
        result = tune("failing", cache__dir=tmp_path / "small", cache__size=1e-4)
        words = "too small for this run's images"
        assert Store(tmp_path / "small", limit_bytes=0, warn=pytest.fail).usage().total_bytes <= 1e5
    assert result.passed
    assert models(result) == expected
    (warning,) = [line for line in result.report["warnings"] if "cache" in line]
    assert words in warning


def test_the_report_says_where_the_time_went(tune: Tune) -> None:
    result = tune("out", pages=True)
    stages = {stage["name"]: stage for stage in result.report["run"]["stages"]}
    assert list(stages) == [
        "read and prepare the model",
        "list the images",
        "check the images",
        "fp32 baseline",
        "hash the images",
        "measure the ranges",
        "tune",
        "write the models",
        "verify",
        "look for causes",
    ]
    trials = len(result.report["tuning"]["trials"])
    assert stages["fp32 baseline"]["images"] == stages["verify"]["images"] == EVALUATION
    assert stages["hash the images"]["images"] == CALIBRATION + EVALUATION
    assert stages["measure the ranges"]["images"] == CALIBRATION
    assert stages["tune"]["images"] == trials * EVALUATION
    assert stages["write the models"]["images"] is None
    for stage in stages.values():
        assert stage["peak_memory_bytes"] <= result.report["run"]["peak_memory_bytes"]
        if stage["images"]:
            assert stage["images_per_s"] == pytest.approx(stage["images"] / stage["wall_s"])


def test_the_example_leaves_nothing_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    few = {
        "quantization.calibration.sampling_size": 10,
        "evaluation.accuracy.sampling_size": 20,
        "refine.effort": "none",
    }
    run_demo(tmp_path / "out", few, verbosity="quiet", report=ReportOptions(pages=False))
    assert not (tmp_path / "users").exists()
