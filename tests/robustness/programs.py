"""Runs of the whole program that are small, alone with their folders, and may be treated badly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
FILES = (
    "net-int8.onnx",
    "net-qdq.onnx",
    "report.html",
    "report.json",
    "report.md",
)
# A shell that runs the tests in the background ignores SIGINT, and its children inherit that.
_LISTENING = (
    "import signal\n"
    "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'): signal.signal(getattr(signal, name), signal.SIG_DFL)\n"
)
# As `scripts/environment.sh` starts it.
_PROGRAM = "\nimport runpy; runpy.run_module('quantize', run_name='__main__', alter_sys=True)\n"
# A few hundred times what these runs take; nothing is measured by it.
PATIENCE_S = 300


@dataclass(frozen=True)
class Program:
    """The main job on a few images.

    Attributes:
        root: holds everything that belongs to it.
        given: holds `net.onnx`, `c.yaml` and the images that it names; shared with others and read only.
        more: further environment variables; None takes one away.
        cached: whether there is a folder for the cache; otherwise it is the user's.
    """

    root: Path
    given: Path
    more: Mapping[str, str | None] = field(default_factory=dict)
    cached: bool = True

    def __post_init__(self) -> None:
        for folder in (self.temporary, self.home, self.root / "cache"):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        return self.root / "temporary"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def environment(self) -> dict[str, str]:
        given = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "TMPDIR": str(self.temporary),
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "NO_COLOR": "1",
            **self.more,
        }
        return {name: value for name, value in given.items() if value is not None}

    def flags(self, *more: str) -> list[str]:
        return [
            f"--input_model={self.given / 'net.onnx'}",
            f"--config={self.given / 'c.yaml'}",
            f"--output_model={self.out}",
            *([f"--cache_dir={self.cache}"] if self.cached else []),
            *more,
        ]

    def start(self, *more: str, prelude: str = "", **given: Any) -> subprocess.Popen[str]:
        """The program in a process group of its own, which listens to Ctrl-C even if the tests do not.

        Args:
            more: flags.
            prelude: Python that the process runs first.
            given: for `subprocess.Popen`.
        """
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-c", f"{_LISTENING}{prelude}{_PROGRAM}", "tune", *self.flags(*more)],
            env=self.environment,
            text=True,
            start_new_session=True,
            cwd=self.root,
            **{**streams, **given},
        )

    def run(self, *more: str, **given: Any) -> subprocess.CompletedProcess[str]:
        with self.start(*more, **given) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_S)
            finally:
                kill(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
        return content

    def rubbish(self) -> list[str]:
        """What no run may leave: temporary files, locks, half-written entries."""
        kept = {self.out / name for name in FILES}
        found = [path for path in self.temporary.iterdir() if not path.name.startswith("matplotlib")]
        if self.out.exists():
            found += [path for path in self.out.iterdir() if path not in kept]
        found += [path for path in self.cache.rglob("*") if path.is_file() and path.name.startswith(".")]
        return sorted(str(path.relative_to(self.root)) for path in found)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills the process and all that it started, if it has not ended by itself."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the files directly in a folder, those of runs under way left out."""
    files = (path for path in folder.iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in files if not path.name.startswith(".")}


Launch = Callable[..., Program]
