"""Asked to end: by Ctrl-C, SIGTERM or SIGHUP, at any moment, also when nothing would listen."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest

from tests.robustness.programs import FILES, PATIENCE_S, Launch, Program, contents, kill

# What is promised is 2 s; where the tests share the machine, a process may have to wait for its turn.
PROMISED_S = 2.0
SLACK_S = 4.0

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}
FLAGS = ("--refine=fast", "--threads=2")
PARTS = 9

# A call that no signal interrupts and that lets other threads run, as those into ONNX Runtime and BLAS do.
_STUCK = """
def stuck(*_, **__):
    import hashlib, os
    os.write(2, b"inside\\n")  # at once: several threads get here
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
# Does what a bare `except:` does, which the engine and its friends have.
_SWALLOWS = """
def swallows(*_, **__):
    import sys, time
    print("inside", file=sys.stderr, flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, float]:
    """Sends the signal; exit code, what was printed to standard error, and how long it took to end."""
    began_s = time.monotonic()
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        kill(process)
    return process.returncode, err, time.monotonic() - began_s


def ended_by_itself(program: Program, process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """False where the signal ended it, cleanly; True where it was so near its end that it did not notice."""
    before = contents(program.out)
    code, err, took_s = ended(process, number)
    found = contents(program.out)
    assert program.rubbish() == []
    if code == 0:
        assert set(found) == set(FILES)
        return True
    assert_obeyed(number, code, err, took_s)
    # All results may have got their names when the signal comes.
    assert found == before or set(found) == set(FILES)
    return False


def assert_clean(program: Program, process: subprocess.Popen[str], number: signal.Signals) -> float:
    """How long it took to end, leaving all as it was."""
    before = contents(program.out)
    code, err, took_s = ended(process, number)
    assert_obeyed(number, code, err, took_s)
    assert contents(program.out) == before
    assert program.rubbish() == []
    return took_s


def assert_obeyed(number: signal.Signals, code: int, err: str, took_s: float) -> None:
    # Until the handlers are set, some milliseconds, these signals end it as they end any program.
    assert code in (128 + number, -number), err
    assert "Traceback" not in err
    if code > 0:
        assert err.splitlines()[-1] == WORDS[number]
    assert took_s < PROMISED_S + SLACK_S


def with_results(program: Program) -> Program:
    program.out.mkdir(exist_ok=True)
    (program.out / "report.json").write_text("earlier")
    return program


@pytest.mark.robustness(
    "Faults",
    "SIGINT, SIGTERM or SIGHUP at a random moment, from our first line on, imports and shut-down included",
    "clean within 2 s: exit code 130, 143 or 129, one line, no temporary file, all as it was or all done",
)
@pytest.mark.parametrize("part", range(PARTS))
def test_at_random_moments(part: int, launch: Launch, whole_s: float) -> None:
    program = with_results(launch())
    number = SIGNALS[part % len(SIGNALS)]
    moment = random.Random(100 + part).random()  # one in each part of the run
    while True:
        # What happens to Python before it reads our first line is its own affair.
        process = program.start(*FLAGS, prelude='import sys; print("begun", file=sys.stderr, flush=True)')
        wait_for(process, "begun")
        assert part + moment > 0, "it takes no notice of the signal"
        try:
            process.communicate(timeout=whole_s * (part + moment) / PARTS)
        except subprocess.TimeoutExpired:
            if not ended_by_itself(program, process, number):
                return
        moment -= 1  # it was quicker this time


@pytest.fixture(scope="module")
def whole_s(launch: Launch) -> float:
    """How long an undisturbed run takes."""
    began_s = time.monotonic()
    assert launch().run(*FLAGS).returncode == 0
    return time.monotonic() - began_s


STAGES = {
    "fp32 baseline": "fp32 baseline: 40 images",
    "measuring ranges": "measuring ranges: 30 images",
    "tuning": "trial 1: 40 images",
    "verifying": "verifying the files as written: 40 images",
    "diagnosing": "looking for the causes of errors",
}


@pytest.mark.robustness(
    "Faults",
    "SIGINT, SIGTERM or SIGHUP as a stage begins: baseline, ranges, tuning, verifying, looking for causes",
    "clean within 2 s: exit code 130, 143 or 129, one line, no temporary file, everything as it was",
)
@pytest.mark.parametrize("stage", STAGES)
def test_as_each_stage_begins(stage: str, launch: Launch) -> None:
    program = with_results(launch())
    number = SIGNALS[list(STAGES).index(stage) % len(SIGNALS)]
    process = program.start(*FLAGS)
    wait_for(process, STAGES[stage])
    assert_clean(program, process, number)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stderr is not None
    for said in process.stderr:
        if said.rstrip() == line:
            return
    raise AssertionError(f"ended before it said {line!r}")


def hung(program: Program, module: str, function: str, replacement: str) -> subprocess.Popen[str]:
    """A run that hangs in a function of ours."""
    prelude = {"stuck": _STUCK, "swallows": _SWALLOWS}[replacement]
    prelude += f"import importlib; setattr(importlib.import_module({module!r}), {function!r}, {replacement})"
    process = program.start(*FLAGS, prelude=prelude)
    wait_for(process, "inside")
    return process


@pytest.mark.robustness(
    "Faults",
    "a signal while the main thread is in a call that does not return, a pool's thread is, or somebody "
    "catches every exception",
    "a second thread removes temporary files and ends the process within 2 s",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "function", "replacement"),
    [
        ("quantize.measuring", "collect_extremes", "stuck"),
        ("quantize.refine.weights", "_refined", "stuck"),
        ("quantize.judging", "evaluate", "swallows"),
    ],
)
def test_when_nobody_listens(
    module: str, function: str, replacement: str, number: signal.Signals, program: Program
) -> None:
    process = hung(with_results(program), module, function, replacement)
    assert list(program.temporary.iterdir()) or module == "quantize.measuring"
    assert_clean(program, process, number)


@pytest.mark.robustness(
    "Faults",
    "Ctrl-C a second time, while the first one is still being obeyed",
    "ends at once, without temporary files",
)
def test_a_second_ctrl_c(program: Program) -> None:
    # The main thread itself hangs; one that only waits for others ends at the first signal.
    for _ in range(5):
        process = hung(with_results(program), "quantize.measuring", "collect_extremes", "stuck")
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        if process.poll() is None:
            break
        # On a busy machine a fifth of a second may take longer than the program has to end.
        process.communicate()
    assert assert_clean(program, process, signal.SIGINT) < 1.0 + SLACK_S


@pytest.mark.robustness(
    "Faults",
    "a signal while the results are moved to their names",
    "they are all moved first, or none is",
)
@pytest.mark.parametrize("number", SIGNALS[:2])
def test_while_moving(number: signal.Signals, program: Program) -> None:
    prelude = """
import os, sys, time
real, moved = os.replace, []
def slowly(source, target):
    if str(target).endswith(("/out/net-int8.onnx", "/out/net-qdq.onnx")):
        print("moving", file=sys.stderr, flush=True)
        time.sleep(0.3)
    real(source, target)
os.replace = slowly
"""
    process = with_results(program).start(*FLAGS, prelude=prelude)
    wait_for(process, "moving")
    code, err, took_s = ended(process, number)
    assert code == 128 + number
    assert err.splitlines()[-1] == WORDS[number]
    assert took_s < PROMISED_S + SLACK_S
    assert set(contents(program.out)) == set(FILES)
    assert program.rubbish() == []


@pytest.mark.robustness(
    "Faults",
    "started with nohup, or in the background by a shell that ignores Ctrl-C",
    "signals that were ignored before it began stay ignored",
)
def test_what_was_ignored_stays_ignored(program: Program) -> None:
    prelude = "\n".join(f"signal.signal(signal.{name}, signal.SIG_IGN)" for name in ("SIGINT", "SIGHUP"))
    process = program.start("--refine=none", "--no_html", prelude=prelude)
    wait_for(process, "measuring ranges: 30 images")
    for number in (signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "PASS" in out
