from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from quantize.cli import main
from quantize.cli.flags import COMMANDS, FLAGS
from quantize.config import Config
from quantize.config.tuning import STRATEGIES
from quantize.diagnose.options import ReportOptions
from quantize.target import TARGETS
from quantize.version import VERSION
from tests.quantize.cli_stand_ins import PROJECT, TUNE, Recorder, failed

# Help.


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    script = (
        "import sys\nfrom quantize.cli import main\nmain(['tune', '--help'])\n"
        "heavy = {'numpy', 'pydantic', 'onnx', 'onnxruntime', 'yaml', 'rich', 'PIL', 'cv2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_flag_and_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for flag in FLAGS:
        assert (f"--{flag.name}" in re.findall(r"--\w+", text)) == (command in flag.commands)
    assert ("\n  1  " in text) == (command == "tune")
    assert "exit codes:" in text
    assert "130" in text
    assert max(map(len, text.splitlines())) <= 110


def test_help_of_the_program_lists_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n    {command}" in text for command in COMMANDS)


def test_help_names_the_strategies_that_exist() -> None:
    (strategy,) = (flag for flag in FLAGS if flag.name == "strategy")
    assert all(name in strategy.help for name in STRATEGIES)


def test_defaults_in_the_help_are_those_of_the_configuration() -> None:
    fields = {flag.field: flag.help for flag in FLAGS if flag.field and "(default: " in flag.help}
    config = Config.from_mapping({}).to_dict()
    for dotted, text in fields.items():
        value: Any = config
        for part in dotted.split("."):
            value = value[part]
        written = re.search(r"\(default: (\S+)\)", text)
        if written and value is not None:
            shown = value[0] if isinstance(value, list) else value
            assert written[1] == (f"{shown:g}" if isinstance(shown, float) else str(shown)), dotted


@pytest.mark.parametrize("arguments", [["--version"], ["tune", "--version"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"quantize {VERSION}\n"


def test_version_is_the_packages() -> None:
    assert f'\nversion = "{VERSION}"\n' in (PROJECT / "pyproject.toml").read_text()


@pytest.mark.parametrize("arguments", [[], ["tune"], ["evaluate"], ["benchmark"]])
def test_nothing_given_shows_a_short_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ")
    assert len(err.splitlines()) <= 3
    if arguments in ([], ["tune"]):
        assert "--demo" in err
        assert "--input_model" in err


def test_program_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quantize", "tune"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


# Tuning.


def test_tune_hands_over_what_was_given(recorder: Recorder, files: Path) -> None:
    assert main(TUNE) == 0
    ((name, _, keywords),) = recorder.calls
    assert name == "tune"
    assert keywords == {
        "input_model": Path("a model.onnx"),
        "output_model": Path("out"),
        "verbosity": "normal",
        "keep_failed": False,
        "start_from": None,
        "profile": False,
        "command": ("python", "-m", "quantize", *TUNE),
        "report": ReportOptions(),
    }
    assert recorder.config.criterion.tolerance == 0.02


def test_tune_in_json_prints_one_document_and_sends_the_rest_to_standard_error(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_tune(*_: object, **__: object) -> types.SimpleNamespace:
        print("PASS: for people")
        return types.SimpleNamespace(
            exit_code=1,
            passed=False,
            sentence="FAIL: too much",
            models={"QDQ": Path("m.onnx")},
            report_path=Path("report.json"),
            report={"speed_up": float("nan")},
        )

    monkeypatch.setitem(sys.modules, "quantize.pipeline", types.SimpleNamespace(run_tune=run_tune))
    assert main([*TUNE, "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "passed": False,
        "sentence": "FAIL: too much",
        "models": {"QDQ": "m.onnx"},
        "report_path": "report.json",
        "report": {"speed_up": None},
    }
    assert "PASS: for people" in err


@pytest.mark.parametrize(
    ("flag", "verbosity"), [("--quiet", "quiet"), ("-q", "quiet"), ("--verbose", "verbose")]
)
def test_verbosity_and_keep_failed(flag: str, verbosity: str, recorder: Recorder, files: Path) -> None:
    assert main([*TUNE, flag, "--keep-failed"]) == 0
    assert recorder.calls[0][2]["verbosity"] == verbosity
    assert recorder.calls[0][2]["keep_failed"] is True


def test_what_the_report_is_asked_for(recorder: Recorder, files: Path) -> None:
    assert main([*TUNE, "--labels=l.txt", "--measure-sensitivity"]) == 0
    wanted = ReportOptions(labels=Path("l.txt"), measure_sensitivity=True)
    assert recorder.calls[-1][2]["report"] == wanted
    assert main([*TUNE, "--no-html", "--sensitivity=s.json"]) == 0
    assert recorder.calls[-1][2]["report"] == ReportOptions(pages=False, sensitivity=Path("s.json"))
    assert main(["tune", "--demo", "--no_html"]) == 0
    assert recorder.calls[-1][2]["report"] == ReportOptions(pages=False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_html", "--labels=x"], "--labels has no effect with --no_html"),
        (["--no_html", "--measure_sensitivity"], "--measure_sensitivity has no effect with --no_html"),
        (["--sensitivity=x", "--measure_sensitivity"], "contradict each other"),
    ],
)
def test_report_flags_that_contradict(
    flags: list[str], message: str, recorder: Recorder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in failed(capsys, *TUNE, *flags)
    assert recorder.calls == []


def test_missed_tolerance_is_code_1(recorder: Recorder, files: Path) -> None:
    recorder.answer = 1
    assert main(TUNE) == 1


def test_every_flag_reaches_its_field(recorder: Recorder, files: Path) -> None:
    given = {
        "quant_format": "qdq",
        "criterion": "ABSOLUTE",
        "tolerable_loss": "1%",
        "metric": "top5",
        "calibration_samples": "12",
        "eval_samples": "34",
        "seed": "56",
        "threads": "3",
        "strategy": "basic",
        "max_trials": "7",
        "timeout": "8.5",
        "workspace": "here",
        "batch_size": "9",
    }
    for joined in (True, False):
        words = (
            [f"--{k}={v}" for k, v in given.items()]
            if joined
            else [w for k, v in given.items() for w in (f"--{k}", v)]
        )
        assert main([*TUNE, *words, "--allow_overlap"]) == 0
        config = recorder.config
        assert config.formats == ("QDQ",)
        assert str(config.criterion) == "absolute decline of top-5 at most 1 percentage points"
        assert (config.calibration_count, config.evaluation_count) == (12, 34)
        assert (config.seed, config.thread_count) == (56, 3)
        assert config.tuning.strategy.name == "basic"
        assert (config.tuning.exit_policy.max_trials, config.tuning.exit_policy.timeout) == (7, 8.5)
        assert config.tuning.workspace.path == files / "here"
        assert config.quantization.calibration.dataloader.batch_size == 9
        assert config.evaluation.accuracy.dataloader.batch_size == 9
        assert config.evaluation.performance.dataloader.batch_size == 1
        assert config.quantization.calibration.allow_overlap


def test_criterion_alone_keeps_the_number(recorder: Recorder, files: Path) -> None:
    assert main([*TUNE, "--criterion=absolute"]) == 0
    assert (recorder.config.criterion.kind, recorder.config.criterion.tolerance) == ("absolute", 0.02)
    assert main([*TUNE, "--tolerable_loss=0"]) == 0
    assert (recorder.config.criterion.kind, recorder.config.criterion.tolerance) == ("relative", 0.0)


def test_eval_samples_wins_over_batches_of_1x(recorder: Recorder, files: Path) -> None:
    (files / "c.yaml").write_text("evaluation: {accuracy: {iteration: 5}}")
    assert main([*TUNE, "--eval_samples=77", "--metric=top1"]) == 0
    assert recorder.config.evaluation_count == 77
    assert recorder.config.criterion.metric == "top1"


@pytest.mark.parametrize("name", ["dataset_location", "dataset-location", "data_path"])
def test_images_from_elsewhere(name: str, recorder: Recorder, files: Path) -> None:
    assert (
        main([*TUNE[:2], "--config=mobilenetv2.yaml", TUNE[3], f"--{name}=my-images", "--label-path=l.txt"])
        == 0
    )
    source = recorder.config.calibration_data()
    assert (source.data_path, source.image_list) == (files / "my-images", files / "l.txt")


def test_home_folder_expands_behind_an_equals_sign(recorder: Recorder, files: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(files))
    assert main(["tune", "--input_model=~/a model.onnx", *TUNE[2:]]) == 0
    assert recorder.calls[0][2]["input_model"] == files / "a model.onnx"


def test_run_tuning_is_another_name_of_tune(recorder: Recorder, files: Path) -> None:
    assert main(["run_tuning", *TUNE[1:]]) == 0


# The demo.


def test_demo_needs_nothing(recorder: Recorder) -> None:
    assert main(["tune", "--demo"]) == 0
    ((name, arguments, keywords),) = recorder.calls
    assert name == "demo"
    assert arguments == (None, {})
    command = ("python", "-m", "quantize", "tune", "--demo")
    assert keywords == {
        "verbosity": "normal",
        "keep_failed": False,
        "profile": False,
        "command": command,
        "report": ReportOptions(),
    }


def test_demo_takes_the_flags_of_tune(recorder: Recorder) -> None:
    assert main(["tune", "--demo", "--output_model=out", "--seed=4", "--tolerable_loss=2%", "--quiet"]) == 0
    (_, (output, overrides), keywords) = recorder.calls[0]
    assert output == Path("out")
    assert overrides == {"tuning.random_seed": 4, "tuning.accuracy_criterion": {"relative": "2%"}}
    assert keywords["verbosity"] == "quiet"


def test_demo_refuses_what_it_brings(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--demo and --config contradict" in failed(capsys, "tune", "--demo", "--config=c.yaml")
    assert "--seed: expected at least 0" in failed(capsys, "tune", "--demo", "--seed=-1")
    assert recorder.calls == []


def test_target_and_profile_reach_the_job(recorder: Recorder, files: Path) -> None:
    assert main([*TUNE, "--target=TensorRT", "--profile"]) == 0
    assert recorder.config.target.name == "tensorrt"
    assert recorder.config.formats == ("QDQ",)
    assert recorder.calls[0][2]["profile"] is True


def test_targets_are_listed_where_one_is_misspelled(
    recorder: Recorder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TUNE, "--target=avx512"]) == 2
    assert "expected portable, avx2, vnni, arm, tensorrt or qnn, got 'avx512'" in capsys.readouterr().err
    assert recorder.calls == []


def test_flags_know_the_targets_there_are() -> None:
    (flag,) = (flag for flag in FLAGS if flag.name == "target")
    assert flag.parse is not None
    assert [flag.parse(name) for name in TARGETS] == list(TARGETS)
    assert all(name in flag.help for name in TARGETS)
