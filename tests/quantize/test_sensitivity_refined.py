"""The command `sensitivity` on a refined model, and the fallbacks that follow its ranking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import quantize
from quantize.cli import main
from quantize.config import Config
from quantize.demo_data import write_digits_dataset
from quantize.diagnose import ablation
from quantize.errors import InputError
from quantize.judging import AccuracyJudge
from quantize.refine import Refiner
from quantize.sensitivity import run_sensitivity
from tests.quantize.sensitivity_runs import MODEL, SAMPLES, config_of, content, run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits_dataset(tmp_path_factory.mktemp("digits") / "set").root


@pytest.fixture(scope="module")
def config(digits: Path) -> Config:
    return config_of(digits, effort="fast")


@pytest.fixture(scope="module")
def refined(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refined") / "s.json"
    calls, original = [], Refiner.refine

    def counted(self: Any, *given: Any) -> Any:
        calls.append(given)
        return original(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Refiner, "refine", counted)
        assert run(config, path) == 0
    # Once, however many operators there are.
    assert len(calls) == 1
    return path


@pytest.fixture(scope="module")
def plain(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "s.json"
    assert run(config.with_overrides({"refine.effort": "none"}), path) == 0
    return path


def test_what_is_measured_is_the_refined_model(refined: Path, plain: Path) -> None:
    made, other = content(refined), content(plain)
    assert made["complete"] is True
    assert made["settings"]["refine"]["effort"] == "fast"
    assert made["settings"]["selection_sha256"]
    assert other["settings"]["refine"] == {"effort": "none"}
    assert other["settings"]["selection_sha256"] is None
    assert {one["name"] for one in made["operators"]} == {one["name"] for one in other["operators"]}
    # Refinement is for something, and each of its parts is closer to fp32 than all of it.
    assert made["int8"]["kl_nats"] < 0.7 * other["int8"]["kl_nats"]
    saved = [one["saved_nats"] for one in made["operators"]]
    assert saved == sorted(saved, reverse=True)
    for one in made["operators"]:
        assert one["without"]["kl_nats"] < 2.0 * made["int8"]["kl_nats"]
        assert one["alone"]["kl_nats"] < made["int8"]["kl_nats"]


def test_a_finished_record_says_how_it_was_refined(
    config: Config, refined: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Refiner, "refine", lambda *_: pytest.fail("refined again"))
    assert run(config, refined) == 0
    assert "refined: fast" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_and_comes_to_the_same(
    config: Config, refined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original, calls = tmp_path / "s.json", ablation.Probe.outcome, []

    def counted(self: Any, model: onnx.ModelProto) -> Any:
        calls.append(model)
        if len(calls) == 1 + 3 * 2 + 1:  # the whole, three operators, half of the fourth
            raise KeyboardInterrupt
        return original(self, model)

    monkeypatch.setattr(ablation.Probe, "outcome", counted)
    with pytest.raises(KeyboardInterrupt):
        run(config, path)
    assert (content(path)["complete"], len(content(path)["operators"])) == (False, 3)
    calls[:] = [None] * 100  # type: ignore[list-item]  # past the interruption
    assert run(config, path) == 0
    assert len(calls) - 100 == 1 + 2 * (content(path)["settings"]["operators"] - 3)
    assert content(path) == content(refined)


def test_another_refinement_is_another_measurement(config: Config, refined: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(refined.read_bytes())
    for change in ({"refine.biases": False}, {"refine.effort": "none"}, {"tuning.random_seed": 5}):
        with pytest.raises(InputError, match="was measured with other settings"):
            run(config.with_overrides(change), path)
    assert path.read_bytes() == refined.read_bytes()


def test_what_another_machine_began_is_begun_again(
    config: Config, refined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the figures from kernels that round otherwise would rank nothing."""
    path = tmp_path / "s.json"
    begun = content(refined) | {"complete": False}
    begun["int8"]["kl_nats"] *= 1.01
    begun["operators"] = begun["operators"][:2]
    path.write_text(json.dumps(begun))
    assert run_sensitivity(config, input_model=MODEL, output=path, samples=SAMPLES) == 0
    assert "beginning again" in capsys.readouterr().err
    assert content(path) == content(refined)


def test_too_few_images_to_refine_by(config: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--refine: too few images to choose between variants"):
        run(config.with_overrides({"refine.selection_samples": 0}), tmp_path / "s.json")


# The ranking, in the main job.


def tuned(
    digits: Path, tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch, **overrides: Any
) -> quantize.TuningResult:
    """With a judge whom no integer model pleases, so that operator after operator goes back to fp32."""
    judged: list[object] = []

    def never_pleased(self: Any, model: onnx.ModelProto) -> float:
        judged.append(model)
        return 0.9 if len(judged) == 1 else 0.5

    monkeypatch.setattr(AccuracyJudge, "__call__", never_pleased)
    return quantize.tune(
        MODEL,
        "demo_digits.yaml",
        tmp_path / "out",
        dataset_location=digits / "evaluation",
        overrides={
            "evaluation.accuracy.sampling_size": 100,
            "quantization.calibration.sampling_size": 40,
            "refine.effort": "fast",
            "tuning.exit_policy.max_trials": 8,
            **overrides,
        },
        report=quantize.ReportOptions(sensitivity=record),
        keep_failed=True,
    )


def test_fallbacks_follow_the_record(
    refined: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tuned(digits, tmp_path, refined, monkeypatch)
    ranked = [one["name"] for one in content(refined)["operators"]]
    left = [set(trial["fp32_operators"]) for trial in result.report["tuning"]["trials"]]
    fallbacks = [names for names in left if names]
    assert len(fallbacks) >= 3
    assert fallbacks == [set(ranked[: count + 1]) for count in range(len(fallbacks))]
    assert not [text for text in result.report["warnings"] if "--sensitivity" in text]


def test_the_record_of_a_plain_model_is_taken_with_a_warning(
    plain: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tuned(digits, tmp_path, plain, monkeypatch, **{"tuning.exit_policy.max_trials": 1})
    (warning,) = (text for text in result.report["warnings"] if "--sensitivity" in text)
    assert warning.endswith("fallbacks may not fit: measure with --refine=fast")


def test_the_command_line(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--calibration_samples=20", "--samples=4", f"--dataset_location={digits / 'evaluation'}"]
    words += ["--refine=fast", "--target=vnni", "--selection_samples=10"]
    assert main(["sensitivity", str(MODEL), "--config=demo_digits.yaml", *words, "-q", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["settings"]["refine"]["effort"] == "fast"
    assert made["settings"]["target"] == "vnni"
    assert made["complete"] is True
