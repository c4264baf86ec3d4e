"""What bash itself makes of the script, for words as bash splits them (`=` is a word of its own)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quantize.cli import main
from quantize.cli.commands import ADDED
from quantize.cli.completion import SHELLS, completion_script
from quantize.cli.flags import COMMANDS, FLAGS
from quantize.cli.parser import build, flag_names
from tests.quantize.cli_stand_ins import PROJECT

BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "quantize.bash"
    path.write_text(completion_script(build(), "bash"), encoding="utf-8")
    return path


def completed(script: Path, *words: str) -> list[str]:
    """Calls the function that is registered for the first word, as bash does when Tab is pressed."""
    if BASH is None:
        pytest.skip("needs bash")
    program = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
registered=$(complete -p "${1##*/}"); registered=${registered#*-F }
"${registered%% *}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        [BASH, "-euc", program, "bash", str(script), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_commands(script: Path) -> None:
    assert set(completed(script, "quantize", "")) >= {*COMMANDS, *ADDED}
    assert completed(script, "quantize", "ins") == ["inspect"]
    assert completed(script, "quantize", "export", "")[:3] == ["ort", "uint8", "triton"]
    assert completed(script, "quantize", "completion", "")[:3] == ["bash", "zsh", "fish"]
    assert "--json" in completed(script, "quantize", "cache", "clear", "-")


@pytest.mark.parametrize("program", ["run_tuning.sh", "./run_tuning.sh"])
def test_scripts_are_commands(program: str, script: Path) -> None:
    assert completed(script, program, "--quant_f") == ["--quant_format"]
    assert "--mode" in completed(script, "run_benchmark.sh", "--")
    assert "--mode" not in completed(script, program, "--")


def test_python(script: Path) -> None:
    assert completed(script, "python", "-m", "quantize", "pre") == ["predict", "prepare"]
    assert completed(script, "python3", "-m", "quantize", "tune", "--metric", "") == ["top1", "top5"]
    assert completed(script, "python", "-m", "pip", "ins") == []
    assert completed(script, "python", "--ver") == []


@pytest.mark.parametrize("written", [["--layout", ""], ["--layout", "="], ["--layout", "=", ""]], ids=str)
def test_values(written: list[str], script: Path) -> None:
    assert completed(script, "quantize", "export", "uint8", "m.onnx", *written) == ["NHWC", "NCHW"]
    assert completed(script, "quantize", "export", "uint8", "--layout", "=", "NC") == ["NCHW"]


def test_files_are_left_to_bash(script: Path) -> None:
    """Nothing is offered, so that `-o default` completes names of files."""
    assert completed(script, "quantize", "predict", "") == []
    assert completed(script, "quantize", "predict", "--config", "") == []
    assert "complete -o default -F _quantize_program quantize" in script.read_text(encoding="utf-8")


def test_a_file_called_like_a_command_does_not_confuse_it(script: Path) -> None:
    assert "--compare" in completed(script, "quantize", "predict", "tune", "--")


@pytest.mark.parametrize("command", [*COMMANDS, *ADDED])
def test_every_flag_is_offered(command: str, script: Path) -> None:
    offered = completed(script, "quantize", command, "-")
    own = [name for name in flag_names(build(), command)]
    below = {"export": ["export", "uint8"], "prepare": ["prepare", "imagenet"]}.get(command)
    if below:
        offered += completed(script, "quantize", *below, "-")
        own = flag_names(build(), *below)
    assert set(own) <= set(offered)
    expected = {f"--{flag.name}" for flag in FLAGS if command in flag.commands}
    assert expected <= set(offered)


def test_what_others_set_up_for_python_stays(script: Path) -> None:
    if BASH is None:
        pytest.skip("needs bash")
    program = 'complete -W "mine" python; source "$1"; complete -p python'
    done = subprocess.run(
        [BASH, "-euc", program, "bash", str(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "complete -W 'mine' python"


def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = completion_script(build(), shell)
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == wanted
    assert main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": wanted}


def test_the_program_has_a_name_of_its_own() -> None:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert '\n[project.scripts]\nquantize = "quantize.cli:program"\n' in text


def test_other_shells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    assert re.search(r"expected bash, zsh or fish, got 'csh'", capsys.readouterr().err)
