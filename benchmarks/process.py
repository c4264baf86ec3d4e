"""Runs a program and says what it cost, by the operating system's own accounting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launch.py")
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
    with (
        tempfile.TemporaryDirectory(prefix="cost-") as folder,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        result = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, "-S", str(_LAUNCHER), str(result), *command],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            check=True,
        )
        found = json.loads(result.read_text(encoding="utf-8"))
        out.seek(0)
        err.seek(0)
        output, words = out.read(), err.read()
    if found["code"] not in accepted:
        last = " | ".join(words.strip().splitlines()[-_WORDS_SHOWN_LINES:])
        raise ProgramFailed(f"{' '.join(command)}: ended with {found['code']}: {last}")
    return Cost(found["wall_s"], found["cpu_s"], found["peak_memory_bytes"], output)


def project_environment(cache: Path) -> dict[str, str]:
    """Variables under which the project's modules are found, and its cache is in `cache`."""
    root = str(Path(__file__).resolve().parents[1])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": search, "XDG_CACHE_HOME": str(cache)}
