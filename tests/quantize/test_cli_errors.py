from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantize.cli import main
from quantize.errors import EngineError, InputError
from tests.quantize.cli_stand_ins import MEASURE, PROJECT, TUNE, Recorder, failed
from tests.robustness.tiny import write_tiny

# Errors.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tnue"], "'tnue' is no command; did you mean 'tune'?"),
        (["--input_model=a"], "say what to do before '--input_model=a': tune, evaluate, benchmark"),
        (["tune", "--input_modle=a"], "--input_modle is no flag of tune; did you mean '--input_model'?"),
        (["tune", "--input"], "--input is no flag of tune; did you mean '--input_model'?"),
        (["tune", "--data_paht=x"], "did you mean '--data_path'?"),
        (["tune", "--warmup=3"], "--warmup is a flag of benchmark, not of tune"),
        (["tune", "stray"], "'stray' belongs to no flag"),
        (["tune", "--seed"], "--seed has no value; write --seed=VALUE"),
        (["tune", "--dataset_location"], "--dataset_location has no value"),
        (["tune", "--seed=ten"], "--seed: expected a whole number, got 'ten'"),
        (["tune", "--timeout=soon"], "--timeout: expected a number of seconds, got 'soon'"),
        (["tune", "--timeout=inf"], "--timeout: expected a number of seconds, got 'inf'"),
        (["tune", "--metric=top3"], "--metric: expected top1 or top5, got 'top3'"),
        (["tune", "--quant_format=int4"], "--quant_format: expected QOperator, QDQ or both, got 'int4'"),
        (["tune", "--config="], "--config: expected a path, got nothing"),
        (["tune", "--demo=yes"], "--demo is a switch"),
        (["tune", "--demo", "-q", "-v"], "--quiet and --verbose contradict each other"),
        (["tune", "--seed=1"], "--output_model is missing"),
        (["tune", "--output_model=o"], "--input_model is missing: the .onnx file to start from, or --demo"),
        (["tune", "--output_model=o", "--input_model=m"], "--config is missing: for example"),
        (["evaluate", "--config=c"], "--input_model is missing"),
        (["evaluate", "--metric=top1"], "--metric is a flag of tune, not of evaluate; remove it"),
        (
            ["benchmark", "--mode=accuracy", "--warmup=0"],
            "--warmup has no effect with --mode=accuracy; leave",
        ),
        (["benchmark", "--mode=accuracy", "--iteration=3"], "--iteration has no effect with --mode=accuracy"),
        (["benchmark", "--mode=accuracy", "--cores_per_instance=3"], "--cores_per_instance has no effect"),
        (["benchmark", "--mode=accuracy", "--num_of_instance=3"], "--num_of_instance has no effect"),
        (["benchmark", "--seed=0"], "--seed has no effect with --mode=performance; leave it out"),
        (["benchmark", "--mode=performance", "--eval_samples=3"], "--eval_samples has no effect"),
        (["benchmark", "--calibration_samples=3"], "--calibration_samples has no effect"),
        (["benchmark", "--allow_overlap"], "--allow_overlap has no effect with --mode=performance"),
    ],
)
def test_usage_errors(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = [word for word in arguments if word != "-v"] if "-v" not in arguments else arguments
    if "-v" in quiet:  # --verbose adds the traceback; the last line stays
        assert main(quiet) == 2
        assert expected in capsys.readouterr().err.splitlines()[-1]
    else:
        assert expected in failed(capsys, *quiet)


def test_model_that_is_not_there(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--input_model m.onnx: no such file" in failed(capsys, "tune", "--input_model=m.onnx", *TUNE[2:])
    assert "is a folder" in failed(capsys, "tune", "--input_model=.", *TUNE[2:])


def test_flag_with_an_impossible_value_is_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(capsys, *TUNE, "--max_trials=0") == "--max_trials: expected at least 1, got 0"
    assert failed(capsys, *TUNE, "--batch_size=0").startswith("--batch_size: ")
    assert "did you mean 'bayesian'" in failed(capsys, *TUNE, "--strategy=bayesain")
    assert failed(capsys, *TUNE, "--tolerable_loss=5").startswith("--tolerable_loss: expected a fraction")
    assert "set the same thing" in failed(
        capsys, "benchmark", *MEASURE, "--threads=1", "--cores_per_instance=1"
    )


def test_configuration_that_is_wrong(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "c.yaml").write_text("model:\n  framwork: onnxrt_qdq\n")
    assert failed(capsys, *TUNE).startswith(
        "c.yaml:2: model.framwork: unknown field; did you mean 'framework'?"
    )


@pytest.mark.parametrize(
    ("problem", "code"), [(InputError("bad\n  image"), 2), (EngineError("no trial"), 3), (KeyError("x"), 3)]
)
def test_problems_below_end_in_one_line(
    problem: Exception, code: int, recorder: Recorder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.answer = problem
    message = failed(capsys, *TUNE, code=code)
    assert ("run again with --verbose" in message) == isinstance(problem, KeyError)
    assert main([*TUNE, "--verbose"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_interruption(recorder: Recorder, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder.answer = KeyboardInterrupt()
    assert main(TUNE) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_reader_that_left_is_no_error(tmp_path: Path) -> None:
    script = (
        "import sys, types\n"
        "sys.modules['quantize.demo'] = fake = types.ModuleType('quantize.demo')\n"
        "def run_demo(*args, **keywords):\n"
        "    print('x' * 200_000)\n"
        "    return types.SimpleNamespace(exit_code=0)\n"
        "fake.run_demo = run_demo\n"
        "from quantize.cli import main\n"
        "sys.exit(main(['tune', '--demo']))\n"
    )
    shell = 'set -o pipefail; "$0" -c "$1" | true'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.robustness(
    "Faults",
    "a model, an image or an output folder lies in a folder that is closed to the user",
    "exit code 2 and one line that names the path",
    times=9,
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "CLOSED/net.onnx"],
        ["predict", "CLOSED/net.onnx", "a.png"],
        ["predict", "net.onnx", "CLOSED/a.png", "--config=c.yaml"],
        ["package", "CLOSED/net.onnx"],
        ["export", "uint8", "net.onnx", "--config=c.yaml", "--output=CLOSED/app"],
        ["export", "ort", "CLOSED/net.onnx"],
        ["prepare", "model", "CLOSED/net.onnx"],
        ["tune", "--input_model=net.onnx", "--config=c.yaml", "--output_model=CLOSED/out"],
        ["tune", "--input_model=net.onnx", "--config=c.yaml", "--output_model=CLOSED/out.onnx"],
    ],
)
def test_folders_that_are_closed(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny = write_tiny(tmp_path / "tiny")
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.chdir(tiny)

    # As the system answers everybody but root, who may run the tests.
    def shut(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any, *more: Any, **given: Any) -> Any:
            if not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(f"{closed}/"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
            return function(path, *more, **given)

        return called

    for name in ("stat", "lstat", "open", "mkdir"):
        monkeypatch.setattr(os, name, shut(getattr(os, name)))
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and may(path, mode))
    code = main([word.replace("CLOSED", str(closed)) for word in arguments])
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert code == 2, said
    (line,) = said
    assert line.startswith("error: ") and str(closed) in line and "internal error" not in line
    assert "Permission denied" in line or "is read-only" in line


def test_names_longer_than_any_file_may_have(capsys: pytest.CaptureFixture[str]) -> None:
    # 200 characters, 400 bytes.
    assert "a name of 400 bytes" in failed(capsys, "inspect", "ä" * 200)


def test_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    tiny = write_tiny(tmp_path / "tiny")
    words = [f"--input_model={tiny}/net.onnx", f"--config={tiny}/c.yaml", f"--output_model={tmp_path}/out"]
    assert "the folder that you are in is gone" in failed(capsys, "tune", *words)


def test_a_backend_of_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = write_tiny(tmp_path / "tiny")
    words = [f"--input_model={tiny}/net.onnx", f"--config={tiny}/c.yaml", f"--output_model={tmp_path}/out"]
    done = subprocess.run(
        [sys.executable, "-m", "quantize", "tune", *words, "--no_cache", "--refine=none", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "MPLBACKEND": "module://no_such_notebook"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
