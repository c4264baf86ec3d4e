"""The command `sensitivity` on a small trained network: what it measures, and that it can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest

import quantize
from quantize.cli import main
from quantize.config import Config
from quantize.demo_data import write_digits_dataset
from quantize.diagnose import ablation
from quantize.errors import EngineError, InputError
from quantize.ranges import EXTREME_RULES
from tests.quantize.sensitivity_runs import MODEL, SAMPLES, config_of, content, run

RULES = len(EXTREME_RULES)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits_dataset(tmp_path_factory.mktemp("digits") / "set").root


@pytest.fixture(scope="module")
def config(digits: Path) -> Config:
    # What is measured of refined models is tested in test_sensitivity_refined.py.
    return config_of(digits, effort="none")


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "s.json"
    assert run(config, path) == 0
    return path


def test_every_operator_is_measured_and_ranked(whole: Path) -> None:
    made = content(whole)
    assert made["complete"] is True
    assert made["settings"]["measured_images"] == SAMPLES
    names = [one["name"] for one in made["operators"]]
    assert len(names) == len(set(names)) == made["settings"]["operators"] > 5
    saved = [one["saved_nats"] for one in made["operators"]]
    assert saved == sorted(saved, reverse=True)
    for one in made["operators"]:
        assert one["saved_nats"] == pytest.approx(made["int8"]["kl_nats"] - one["without"]["kl_nats"])
        assert one["alone"]["kl_nats"] >= 0.0
        # One operator alone cannot ruin a network that all of them together do not.
        assert one["alone"]["agreement_fraction"] > 0.9
    # The sum of what each does alone is of the size of what all do together.
    assert sum(one["alone"]["kl_nats"] for one in made["operators"]) == pytest.approx(
        made["int8"]["kl_nats"], rel=3.0
    )


def test_the_chart_is_drawn_beside_it(whole: Path) -> None:
    root = ElementTree.fromstring(whole.with_suffix(".svg").read_text(encoding="utf-8"))
    words = "".join(root.itertext())
    for one in content(whole)["operators"][:3]:
        assert one["name"][-12:] in words


def test_an_interrupted_run_goes_on_and_comes_to_the_same(
    config: Config, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.json"
    original, calls = ablation.Probe.outcome, []

    def counted(self: Any, model: onnx.ModelProto) -> Any:
        calls.append(model)
        if len(calls) == RULES + 3 * 2 + 1:  # the rules, three operators, half of the fourth
            raise KeyboardInterrupt
        return original(self, model)

    monkeypatch.setattr(ablation.Probe, "outcome", counted)
    with pytest.raises(KeyboardInterrupt):
        run(config, path)
    begun = content(path)
    assert (begun["complete"], len(begun["operators"])) == (False, 3)
    calls.clear()
    calls.extend([None] * 100)  # type: ignore[list-item]  # past the interruption
    assert run(config, path) == 0
    assert len(calls) - 100 == RULES + 2 * (begun["settings"]["operators"] - 3)
    assert content(path) == content(whole)


def test_a_finished_record_is_shown_without_measuring(
    config: Config, whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(ablation.Probe, "outcome", fails)
    before = whole.read_bytes()
    assert run(config, whole) == 0
    shown = capsys.readouterr().out
    assert "most harmful operators first" in shown
    assert content(whole)["operators"][0]["name"] in shown
    assert run(config, whole, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == content(whole)
    assert whole.read_bytes() == before


def test_a_record_of_other_settings_is_not_mixed_in(config: Config, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(whole.read_bytes())
    other = config.with_overrides({"quantization.calibration.sampling_size": 30})
    with pytest.raises(
        InputError, match=r"other settings \(calibration_sha256\); name another file, or give"
    ):
        run(other, path)
    assert path.read_bytes() == whole.read_bytes()
    assert run(other, path, restart=True) == 0
    assert content(path)["settings"]["calibration_images"] == 30


def test_operators_that_are_kept_in_fp32_are_not_measured(
    config: Config, whole: Path, tmp_path: Path
) -> None:
    fp32 = {"activation": {"dtype": ["fp32"]}, "weight": {"dtype": ["fp32"]}}
    kept = config.with_overrides({"quantization.optype_wise": {"Concat": fp32}})
    assert run(kept, tmp_path / "s.json") == 0
    kinds = {one["op_type"] for one in content(tmp_path / "s.json")["operators"]}
    assert "Concat" in {one["op_type"] for one in content(whole)["operators"]}
    assert kinds
    assert "Concat" not in kinds


@pytest.mark.parametrize(
    ("name", "message"),
    [("s.txt", "ends in .json"), ("absent/s.json", "there is no folder"), ("folder.json", "is a folder")],
)
def test_where_it_cannot_go(name: str, message: str, config: Config, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=message):
        run(config, tmp_path / name)


# Its record, in the main job.


def tuned(digits: Path, tmp_path: Path, record: Path | None, **options: Any) -> quantize.TuningResult:
    changes = {
        "evaluation.accuracy.sampling_size": 100,
        "quantization.calibration.sampling_size": 40,
        "refine.effort": "none",
    }
    return quantize.tune(
        MODEL,
        "demo_digits.yaml",
        tmp_path / "out",
        dataset_location=digits / "evaluation",
        overrides=changes,
        report=quantize.ReportOptions(sensitivity=record, **options),
    )


def test_the_main_job_takes_the_ranking(whole: Path, digits: Path, tmp_path: Path) -> None:
    result = tuned(digits, tmp_path, whole)
    wanted = {one["name"]: one["saved_nats"] for one in content(whole)["operators"]}
    assert result.report["tuning"]["sensitivity_nats"] == pytest.approx(wanted)
    assert result.report["diagnosis"]["sensitivity_origin"] == f"Read from {whole}."
    assert "What leaving one operator in fp32 saves" in result.report_path.with_suffix(".html").read_text()


def test_the_main_job_measures_when_asked(digits: Path, tmp_path: Path) -> None:
    result = tuned(digits, tmp_path, None, measure_sensitivity=True)
    measured = result.report["tuning"]["sensitivity_nats"]
    assert len(measured) > 5
    assert result.report["diagnosis"]["sensitivity_origin"] == "Measured on the finished model."


def test_without_pages_nothing_is_looked_for(digits: Path, tmp_path: Path) -> None:
    result = tuned(digits, tmp_path, None, pages=False)
    assert result.report["diagnosis"] is None
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".onnx", ".json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complete": False}, "is not finished"),
        ({"settings": {"model_sha256": "0" * 64}}, "on another model"),
        ({"operators": None}, "is no record"),
    ],
)
def test_a_record_that_does_not_serve_is_refused_before_work(
    change: dict[str, Any], message: str, whole: Path, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(content(whole) | change))
    with pytest.raises(InputError, match=message):
        tuned(digits, tmp_path, tmp_path / "r.json")
    assert not (tmp_path / "out").exists()


def test_the_engine_failing_is_told_as_such(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise EngineError("out of memory")

    monkeypatch.setattr(ablation.Probe, "outcome", fails)
    with pytest.raises(EngineError, match="out of memory"):
        run(config, tmp_path / "s.json")


# Its command line.


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sensitivity", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "MODEL is missing"),
        ([str(MODEL)], "--config is missing"),
        (["absent.onnx", "--config=demo_digits.yaml"], "MODEL absent.onnx: no such file"),
        ([".", "--config=demo_digits.yaml"], "is a folder"),
        ([str(MODEL), "b.onnx", "--config=c.yaml"], "'b.onnx' is one argument too many"),
        ([str(MODEL), "--config=demo_digits.yaml", "--samples=0"], "--samples: 0 is too few"),
        ([str(MODEL), "--config=c.yaml", "--output_modle=x"], "--output_modle is no flag of sensitivity"),
        ([str(MODEL), "--config=c.yaml", "--keep_failed"], "--keep_failed is no flag of sensitivity"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(MODEL.parent)
    assert message in failed(capsys, *arguments)


def test_the_command_line_reaches_the_command(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--calibration_samples=20", "--samples=8", f"--dataset_location={digits / 'calibration'}"]
    words.append("--refine=none")
    # Both sides share the folder out, which the criterion of the configuration does not mind.
    assert main(["sensitivity", str(MODEL), "--config=demo_digits.yaml", *words, "-q", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["settings"]["calibration_images"] == 20
    assert made["settings"]["measured_images"] == 8
    assert (tmp_path / "digits-squeezenet-sensitivity.json").is_file()
    assert (tmp_path / "digits-squeezenet-sensitivity.svg").is_file()


def test_help_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", "--help"]) == 0
    text = capsys.readouterr().out
    flags = ("--config", "--output", "--samples", "--refine", "--target", "--restart", "--json")
    for word in ("MODEL", *flags, "files:", "exit codes:"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 110
