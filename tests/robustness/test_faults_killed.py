"""Killed at any moment: what was there stays, nothing is half-written, and the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantize.holding import held
from quantize.moving import JOURNAL, move_into_place
from quantize.report.volatile import steady
from tests.robustness.programs import FILES, PATIENCE_S, PROJECT, Launch, Program, contents, kill

KILLS = 20
# Every so many kills the cache is emptied, so that runs of every length are killed.
FRESH_EVERY = 4
FLAGS = ("--refine=fast", "--resume", "--threads=2")


@pytest.fixture(scope="module")
def undisturbed(launch: Launch) -> tuple[Program, float]:
    """A run that nobody disturbed, and how long it took once it had begun to work, in seconds."""
    program = launch()
    with at_work(program) as process:
        began_s = time.monotonic()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return program, time.monotonic() - began_s


def at_work(program: Program) -> subprocess.Popen[str]:
    """Starts a run; returns as soon as everything is imported that comes before the first image.

    Until then nothing is there that a kill could leave behind.
    """
    process = program.start(*FLAGS, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("checking images"):
            return process
    raise AssertionError("ended before it looked at an image")


def earlier_results(program: Program) -> dict[str, bytes]:
    """Puts files under all final names, as an earlier run would have left them."""
    program.out.mkdir(exist_ok=True)
    for name in FILES:
        (program.out / name).write_bytes(f"earlier {name}".encode())
    return contents(program.out)


def a_minute_later(program: Program) -> None:
    """A kill between making a folder and claiming it leaves it empty; its age tells it from a new one."""
    for path in program.temporary.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            os.utime(path, (0, 0))


@pytest.mark.robustness(
    "Faults",
    "killed with SIGKILL at random moments of the main job",
    "what was there before is intact byte for byte or wholly replaced, no temporary file outlives the next "
    "run, which reuses the finished trial and gives the same bytes as a run that was never killed",
    times=KILLS,
)
def test_killed_at_random_moments(undisturbed: tuple[Program, float], launch: Launch) -> None:
    reference, whole_s = undisturbed
    finished = contents(reference.out)
    program = launch()
    moments = random.Random(20260731)
    # One moment in each twentieth of the work, in a random order.
    shares = [(number + moments.random()) / KILLS for number in range(KILLS)]
    moments.shuffle(shares)
    kills = 0
    while kills < KILLS:
        if kills % FRESH_EVERY == 0:
            subprocess.run(["rm", "-rf", str(program.cache)], check=True)
            program.cache.mkdir()
        before = earlier_results(program)
        process = at_work(program)
        try:
            process.communicate(timeout=whole_s * shares[kills])
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
        else:
            assert process.returncode == 0
            shares[kills] *= 0.7  # what was reused has made it too short to be killed there
        assert_whole(contents(program.out), before, finished)
    a_minute_later(program)
    done = program.run(*FLAGS)
    assert done.returncode == 0, done.stderr
    assert program.rubbish() == []
    assert_same(program, reference)
    # A last kill, of a run that has everything but the end.
    again = program.run(*FLAGS)
    assert "finished by an earlier run" in again.stderr
    assert program.report["run"]["reused"]["trials"] == [1]
    assert_same(program, reference)


def assert_whole(there: dict[str, bytes], before: dict[str, bytes], finished: dict[str, bytes]) -> None:
    """Every file is the earlier one or a finished one; models can be told by their bytes."""
    assert set(there) == set(before)
    for name, content in there.items():
        if content != before[name]:
            assert name.startswith("report") or content == finished[name], name
            assert not content.startswith(b"earlier")
            if name == "report.html":
                assert content.rstrip().endswith(b"</html>")


def assert_same(program: Program, reference: Program) -> None:
    for name in FILES[:2]:
        assert (program.out / name).read_bytes() == (reference.out / name).read_bytes(), name
    mine, other = steady(program.report), steady(reference.report)
    # What the two runs were called by, and where: nothing else may differ.
    text = str(mine).replace(str(program.root), "ROOT")
    assert text == str(other).replace(str(reference.root), "ROOT")


_KILLED_WHILE_MOVING = """
import os, signal, sys
from pathlib import Path
from quantize import moving
from quantize.scratch import staging_folder
at, calls, replace, unlink = int(sys.argv[2]), 0, os.replace, Path.unlink

def counted(function):
    def call(*arguments, **more):
        global calls
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return function(*arguments, **more)
    return call

out = Path(sys.argv[1])
with staging_folder(out) as folder:
    moves = {}
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"new {name}")
        moves[folder / name] = out / name
    os.replace, os.link = counted(os.replace), counted(os.link)
    Path.unlink = counted(Path.unlink)
    moving.move_into_place(moves)
"""
# Two links for what was there, the journal's name, three files, the journal's end.
STEPS = 7


@pytest.mark.robustness(
    "Faults",
    "killed with SIGKILL between two steps of moving the results to their names",
    "the next run into the folder puts everything back as it was, or finds all of it moved",
)
@pytest.mark.parametrize("step", range(STEPS + 1))
def test_killed_while_moving(step: int, tmp_path: Path) -> None:
    for name in ("b", "c"):
        (tmp_path / name).write_text(f"old {name}")
    before = contents(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", _KILLED_WHILE_MOVING, str(tmp_path), str(step)]
    done = subprocess.run(command, env=environment, check=False)
    assert done.returncode == (-signal.SIGKILL if step < STEPS else 0)
    sweep(tmp_path)
    moved = {name: f"new {name}".encode() for name in ("a", "b", "c")}
    assert contents(tmp_path) == (before if step < STEPS else moved)
    assert set(os.listdir(tmp_path)) == set(contents(tmp_path))


def sweep(folder: Path) -> None:
    """What the next run does before anything else."""
    from quantize.config import SHIPPED_FOLDER, load_config
    from quantize.destination import plan_destination

    destination = plan_destination(folder, MODEL_OF_NEXT_RUN, ("QDQ",))
    with held(destination, load_config(SHIPPED_FOLDER / "demo_digits.yaml")):
        pass


MODEL_OF_NEXT_RUN = Path("next.onnx")


def test_an_interrupted_undoing_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "staging"
    folder.mkdir()
    (tmp_path / "b").write_text("old b")
    moves = {}
    for name in ("a", "b"):
        (folder / name).write_text(f"new {name}")
        moves[folder / name] = tmp_path / name
    kept = (folder / JOURNAL).with_name("kept")
    real = Path.unlink

    def fails(path: Path, missing_ok: bool = False) -> None:
        if path.name == JOURNAL and not kept.exists():
            os.link(path, kept)
            raise KeyboardInterrupt
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", fails)
    with pytest.raises(KeyboardInterrupt):
        move_into_place(moves)
    assert contents(tmp_path) == {"b": b"old b"}
    # As if the process had been killed before it removed the journal: undoing once more changes nothing.
    monkeypatch.undo()
    os.rename(kept, folder / JOURNAL)
    from quantize.moving import undo

    undo(folder)
    assert contents(tmp_path) == {"b": b"old b"}
    assert not (folder / JOURNAL).exists()
