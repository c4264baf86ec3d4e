"""Two runs into one folder: the second is refused, and no killed run leaves a lock behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quantize import locking
from quantize.errors import InputError
from quantize.locking import LOCK, locked
from tests.robustness.programs import PROJECT, Program, contents

_HOLDS = """
import sys
from pathlib import Path
from quantize.locking import locked
with locked(Path(sys.argv[1]), "--output_model"):
    print("held", flush=True)
    sys.stdin.readline()
"""
_ROW = pytest.mark.robustness(
    "Faults",
    "two runs into the same folder, or keeping trials in the same workspace",
    "the second ends at once with exit code 2, naming process, host and time of the first",
)


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(folder)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@_ROW
def test_the_second_run_is_refused_and_the_first_goes_on(program: Program) -> None:
    waits = """
import sys
import quantize.measuring
real = quantize.measuring.collect_extremes
def waiting(*arguments, **more):
    print("inside", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return real(*arguments, **more)
quantize.measuring.collect_extremes = waiting
"""
    with program.start("--refine=none", "--no_html", prelude=waits, stdin=subprocess.PIPE) as first:
        assert first.stderr is not None
        while first.stderr.readline() != "inside\n":
            assert first.poll() is None
        second = program.run("--refine=none", "--no_html")
        assert second.returncode == 2, second.stderr
        (line,) = [line for line in second.stderr.splitlines() if line.startswith("error: ")]
        assert f"another run writes there (process {first.pid} on " in line
        assert "since 20" in line and "name another folder" in line
        _, said = first.communicate("go on\n")
    assert first.returncode == 0, said
    assert program.rubbish() == []


@_ROW
@pytest.mark.parametrize("spelling", ["same", "link", "dots"])
def test_one_folder_under_several_names(spelling: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    other = {"same": "out", "link": "link", "dots": "link/../out"}[spelling]
    process = holder(tmp_path / "out")
    with pytest.raises(InputError, match=rf"process {process.pid} on "), locked(tmp_path / other, "--x"):
        raise AssertionError("not reached")
    kill_alone(process)


def kill_alone(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.robustness(
    "Faults",
    "killed with SIGKILL while it holds the lock of its output folder",
    "the next run into the folder gets the lock, although the file is still there",
)
def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    process = holder(tmp_path / "out")
    kill_alone(process)
    assert (tmp_path / "out" / LOCK).exists()
    with locked(tmp_path / "out", "--output_model"):
        assert json.loads((tmp_path / "out" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "out").exists() or contents(tmp_path / "out") == {}


@_ROW
def test_the_workspace_is_held_too(program: Program) -> None:
    process = holder(program.root / "trials")
    done = program.run("--refine=none", f"--workspace={program.root / 'trials'}")
    kill_alone(process)
    assert done.returncode == 2
    assert f"error: --workspace {program.root / 'trials'}: another run writes there" in done.stderr
    assert not program.out.exists()


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "a" / "b", "--output_model"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    with locked(tmp_path / "a" / "b", "--output_model"):
        (tmp_path / "a" / "result").touch()
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["result"]


def test_only_one_of_many_gets_it_at_a_time(tmp_path: Path) -> None:
    """Locks of one process exclude each other too; the file comes and goes under their feet."""
    inside, most, refused = 0, 0, 0
    guard = threading.Lock()

    def try_often() -> None:
        nonlocal inside, most, refused
        for _ in range(100):
            try:
                with locked(tmp_path, "--output_model"):
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
            except InputError:
                with guard:
                    refused += 1

    threads = [threading.Thread(target=try_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert refused < 400


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(locking.os, "open", refused)
    with (
        pytest.raises(InputError, match=r"--output_model .*: cannot write there \(Read-only file system\)"),
        locked(tmp_path, "--output_model"),
    ):
        raise AssertionError("not reached")


def test_who_holds_it_may_be_unknown(tmp_path: Path) -> None:
    process = holder(tmp_path)
    (tmp_path / LOCK).write_text("\x1b[31mnonsense")
    with pytest.raises(InputError, match=r"another run writes there; wait for it"), locked(tmp_path, "--x"):
        raise AssertionError("not reached")
    kill_alone(process)


def test_without_locks_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "lock", lambda _: None)
    with locked(tmp_path, "--x"):
        pass
    assert os.listdir(tmp_path) == []
