"""What a run does besides computing: it asks nobody, unpickles nothing, and starts only itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WATCHING = Path(__file__).with_name("watching")


def watched(
    folder: Path, *command: str
) -> tuple[subprocess.CompletedProcess[str], list[tuple[str, list[str]]]]:
    """Runs an interpreter in a folder; returns what it did that is noted: event, and arguments as text."""
    notes = folder / "watched.jsonl"
    notes.touch()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(WATCHING), str(PROJECT)]),
        "WATCHED": str(notes),
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done, [tuple(json.loads(line)) for line in notes.read_text(encoding="utf-8").splitlines()]


def test_the_watch_itself_sees_what_it_is_there_for(tmp_path: Path) -> None:
    code = """
import collections, os, pickle, subprocess, sys, urllib.request
pickle.loads(pickle.dumps(collections.OrderedDict()))
os.system("true")
subprocess.run([sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"])
urllib.request.urlopen("http://127.0.0.1:9/")
"""
    done, noted = watched(tmp_path, "-c", code)
    assert done.returncode != 0
    events = [event for event, _ in noted]
    assert events[:3] == ["pickle.find_class", "os.system", "subprocess.Popen"]
    assert "socket.getaddrinfo" in events  # of the child
    assert events[-1] == "urllib.Request"


@pytest.mark.robustness(
    "Supply chain",
    "a whole run of the main job, every interpreter of it watched",
    "opens no connection, looks up no name, unpickles nothing, starts no shell",
)
def test_the_main_job_asks_nobody_and_runs_nothing_else(tmp_path: Path) -> None:
    flags = ["--demo", "--refine=none", "--eval_samples=60", "--threads=2", "--output_model=out"]
    done, noted = watched(tmp_path, "-m", "quantize", "tune", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "report.html").is_file()
    assert [note for note in noted if note[0] != "subprocess.Popen"] == []
    started = {arguments[0] for _, arguments in noted}
    # The engine asks what the CPU is, and matplotlib, once, which fonts there are; neither by a shell.
    assert started <= {repr(sys.executable), "'lscpu'", "'fc-list'"}
