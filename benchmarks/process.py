"""Runs a program and says what it cost, by the operating system's own accounting."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_WORDS_SHOWN_LINES = 5


@dataclass(frozen=True)
class Cost:
    """What one run of a program took.

    Attributes:
        wall_s: from start to end.
        cpu_s: processor time, user and system, of the program and the children it waited for.
        peak_memory_bytes: largest resident memory of the program.
        output: what it wrote to standard output.
    """

    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    output: str


class ProgramFailed(Exception):
    """The program ended with another code than the expected ones; the message has its last words."""


def run(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, accepted: Sequence[int] = (0,)
) -> Cost:
    """Runs a program to its end.

    Args:
        command: words, no shell.
        environment: variables beside those of this process.
        accepted: exit codes that count as success.

    Raises:
        ProgramFailed: it ended otherwise.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
        process.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output, words = out.read(), err.read()
    if code not in accepted:
        last = " | ".join(words.strip().splitlines()[-_WORDS_SHOWN_LINES:])
        raise ProgramFailed(f"{' '.join(command)}: ended with {code}: {last}")
    # `ru_maxrss` counts KiB on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, output)


def project_environment(cache: Path) -> dict[str, str]:
    """Variables under which the project's modules are found, and its cache is in `cache`."""
    root = str(Path(__file__).resolve().parents[1])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": search, "XDG_CACHE_HOME": str(cache)}
