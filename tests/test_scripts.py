"""The shell scripts, in a copy of the checkout whose path has a space in it.

Interpreters are stand-ins that print what `probe.py` would print on such a one: what is under test is which
of them is chosen, what it is told to do, and every error line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SCRIPTS = ("run_tuning.sh", "run_benchmark.sh", "run_tests.sh")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH that holds no interpreter, only what the scripts and the stand-ins call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "chmod", "dirname", "mkdir"):
        found = shutil.which(tool)
        assert found, f"{tool} is needed to run the scripts"
        (folder / tool).symlink_to(found)
    return folder


def fake_python(path: Path, line: str | None, *, setup_exit_code: int = 0) -> Path:
    """Writes a stand-in interpreter.

    `line` is what it answers to the probe; without one it refuses to run, as a pyenv shim does. Told to set
    up, it says so and puts another stand-in into `.venv`; told to run something else, it shows it.
    """
    answer = "echo 'not in this version' >&2; exit 127" if line is None else f'echo "{line}"; exit'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""#!/bin/sh
case "$*" in
*probe.py*) {answer} ;;
*setup_environment.py\\ check*) exit 1 ;;
*setup_environment.py\\ install*)
  echo "setup by $0"; shift 3; echo "wants $*"; [ {setup_exit_code} = 0 ] || exit {setup_exit_code}
  mkdir -p "$OWN"; printf '#!/bin/sh\\necho ran from .venv\\n' > "$OWN/python"; chmod +x "$OWN/python" ;;
*) echo "ran $0"; echo "in $PWD"; shift 2; for each; do echo "<$each>"; done ;;
esac
""",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def run_script(checkout: Path, tools: Path, *arguments: str, **variables: str) -> SimpleNamespace:
    """Runs `run_tuning.sh` from another folder, with nothing in the environment but what is given."""
    done = subprocess.run(
        ["bash", str(checkout / "run_tuning.sh"), *arguments],
        env={
            "PATH": str(tools),
            "HOME": str(checkout.parent / "home"),
            "OWN": str(checkout / ".venv/bin"),
            **variables,
        },
        executable=shutil.which("bash"),
        cwd=checkout.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def test_takes_the_first_interpreter_that_runs_and_is_supported(checkout: Path, tools: Path) -> None:
    fake_python(tools / "python3.11", None)
    fake_python(tools / "python3.12", "3.12 bare /opt/python3.12")
    chosen = fake_python(tools / "python3.10", "3.10 venv $0")
    fake_python(tools / "python3", "3.13 venv $0")
    done = run_script(checkout, tools)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [f"setup by {chosen}", "wants run", "ran from .venv"]


def test_finds_a_pyenv_version_behind_a_shim_that_does_not_run(
    checkout: Path, tools: Path, tmp_path: Path
) -> None:
    fake_python(tools / "python3.12", None)
    chosen = fake_python(tmp_path / "py env/versions/3.12.1/bin/python", "3.12 venv $0")
    done = run_script(checkout, tools, PYENV_ROOT=str(tmp_path / "py env"))
    assert f"setup by {chosen}" in done.out.splitlines(), done.err


def test_without_an_interpreter_one_line_names_what_was_tried(checkout: Path, tools: Path) -> None:
    fake_python(tools / "python3.11", None)
    fake_python(tools / "python3", "3.9 venv $0")
    done = run_script(checkout, tools)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    for part in ("python3.11 does not run", "python3 is 3.9", "set PYTHON"):
        assert part in done.err


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (None, "does not run"),
        ("2.7 bare $0", "is Python 2.7"),
        ("3.9 venv $0", "is Python 3.9"),
        ("3.13 venv $0", "is Python 3.13"),
        ("3.11 bare $0", "cannot make a virtual environment"),
    ],
)
def test_an_unsuitable_named_interpreter_is_one_line(
    checkout: Path, tools: Path, tmp_path: Path, answer: str | None, part: str
) -> None:
    named = fake_python(tmp_path / "na med/python", answer)
    done = run_script(checkout, tools, PYTHON=str(named))
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert f"PYTHON={named}" in done.err
    assert part in done.err


def test_a_missing_named_interpreter_is_one_line(checkout: Path, tools: Path) -> None:
    done = run_script(checkout, tools, PYTHON="/nowhere/python3")
    assert done.code == 2
    assert done.err.splitlines() == [
        "error: PYTHON=/nowhere/python3 does not exist or is not executable: "
        "give the path of Python 3.10, 3.11 or 3.12"
    ]


def test_a_named_interpreter_wins_and_is_what_the_environment_is_made_from(
    checkout: Path, tools: Path, tmp_path: Path
) -> None:
    fake_python(tools / "python3", "3.11 project $0")
    named = fake_python(tmp_path / "my python", "3.12 venv $0")
    done = run_script(checkout, tools, PYTHON=str(named))
    assert done.out.splitlines() == [f"setup by {named}", f"wants run {named}", "ran from .venv"], done.err


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX", "PYTHON", "PATH"])
def test_an_environment_that_has_the_project_is_used_as_it_is(
    checkout: Path, tools: Path, tmp_path: Path, variable: str
) -> None:
    if variable == "PATH":
        active = fake_python(tools / "python3", "3.11 project /opt/python3.11")
        variables = {}
    else:
        active = fake_python(tmp_path / "my env/bin/python", "3.11 project /opt/python3.11")
        variables = {variable: str(active if variable == "PYTHON" else active.parent.parent)}
    arguments = ["--input_model=a b.onnx", "--quiet", "*", ""]
    done = run_script(checkout, tools, *arguments, **variables)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"ran {active}",
        f"in {checkout.parent}",  # so that relative paths mean what the user meant
        f"<{checkout}>",
        "<quantize>",
        "<tune>",
        *(f"<{argument}>" for argument in arguments),
    ]
    assert not (checkout / ".venv").exists()


def test_an_active_environment_without_the_project_is_left_alone(
    checkout: Path, tools: Path, tmp_path: Path
) -> None:
    fake_python(tmp_path / "env/bin/python", "3.12 venv /opt/python3.12")
    base = fake_python(tools / "python3.11", "3.11 venv $0")
    done = run_script(checkout, tools, VIRTUAL_ENV=str(tmp_path / "env"))
    assert f"setup by {base}" in done.out.splitlines(), done.err


def test_a_failed_setup_ends_the_script_with_its_exit_code(checkout: Path, tools: Path) -> None:
    fake_python(tools / "python3.11", "3.11 venv $0", setup_exit_code=3)
    done = run_script(checkout, tools)
    assert done.code == 3
    assert "ran" not in done.out.split()


def test_without_arguments_the_usage_names_both_ways_to_start(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, str(PROJECT / "scripts/probe.py"), str(PROJECT), "run"],
        capture_output=True,
        text=True,
        check=True,
    )
    if " project " not in found.stdout:
        pytest.skip("needs an interpreter that has the project installed (run_tests.sh makes one)")
    # A folder of the same name must not be taken for the project.
    (tmp_path / "quantize").mkdir()
    (tmp_path / "quantize/__init__.py").write_text(
        "raise SystemExit('the wrong quantize')\n", encoding="utf-8"
    )
    done = subprocess.run(
        ["bash", str(PROJECT / "run_tuning.sh")],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode in {0, 2}, output
    assert "--demo" in output
    assert "--input_model" in output
    assert "Traceback" not in output


def test_shellcheck_has_nothing_to_say() -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    tool = str(beside) if beside.exists() else shutil.which("shellcheck")
    if tool is None:
        pytest.skip("needs shellcheck (in the dev extra)")
    scripts = [*SCRIPTS, *(f"scripts/{path.name}" for path in (PROJECT / "scripts").glob("*.sh")), ".ci/run"]
    done = subprocess.run([tool, "-x", *scripts], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
