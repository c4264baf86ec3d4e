"""Standard streams that are closed, full, or left by their reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness.programs import FILES, PATIENCE_S, Program, contents

QUICK = ("--refine=none", "--threads=2")


def shell(program: Program, redirections: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable, "-m", "quantize", *command],
        env=program.environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=program.root,
        timeout=PATIENCE_S,
    )


@pytest.mark.robustness(
    "Faults",
    "standard input, output and error are all closed",
    "the run succeeds and writes all its files, and nothing of what it prints gets into them",
)
def test_everything_closed(program: Program) -> None:
    done = shell(program, "<&- >&- 2>&-", "tune", *program.flags(*QUICK))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert set(contents(program.out)) == set(FILES)
    assert program.report["verdict"]["passed"] is True
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "standard error is closed while standard output is for JSON",
    "standard output holds the JSON document alone",
)
def test_errors_do_not_get_into_the_output(program: Program) -> None:
    done = shell(program, "2>&-", "cache", "info", f"--cache_dir={program.cache}", "--json")
    assert done.returncode == 0
    assert done.stdout.startswith("{") and done.stdout.rstrip().endswith("}")
    done = shell(program, "2>&-", "cache", "nonsense")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.robustness(
    "Faults",
    "the reader of the output leaves (`| head`), or the output goes to a full disk",
    "exit code 141, or 3 and one line; no traceback",
)
def test_a_reader_that_leaves(program: Program) -> None:
    with program.start(*QUICK) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in said and "Exception ignored" not in said
    assert set(contents(program.out)) == set(FILES), "they were finished before they were told of"
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the reader of the output leaves (`| head`), or the output goes to a full disk",
    "exit code 141, or 3 and one line; no traceback",
)
def test_a_reader_of_everything_that_leaves(program: Program) -> None:
    with program.start(*QUICK, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 141
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "the reader of the output leaves (`| head`), or the output goes to a full disk",
    "exit code 141, or 3 and one line; no traceback",
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words", [["cache", "info"], ["--help"], ["tune", "--help"], ["--version"], ["completion", "bash"]]
)
@pytest.mark.parametrize("redirection", [">/dev/full", ">/dev/full 2>/dev/full"])
def test_a_full_disk_behind_the_output(redirection: str, words: list[str], program: Program) -> None:
    done = shell(program, redirection, *words)
    assert done.returncode == 3
    expected = (
        "" if "2>" in redirection else "error: No space left on device; free some space and run again\n"
    )
    assert done.stderr == expected
