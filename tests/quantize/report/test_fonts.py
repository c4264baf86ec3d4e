"""Where matplotlib writes when the command line draws."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantize.cli import main
from tests.quantize.cli_stand_ins import PROJECT

DRAW = """
from quantize.report.charts.fonts import use_own_fonts
use_own_fonts()
from quantize.report.charts.outcome import Bar, bars
bars([Bar("fp32", 1.0, "one")], "name", "what")
"""


def draws(home: Path, **environment: str) -> str:
    """What a process with this home prints on standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        env={**kept, "HOME": str(home), **environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def files_in(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


def test_nothing_but_our_own_cache_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draws(tmp_path) == ""
    made = files_in(tmp_path)
    assert made
    assert all(path.parts[:3] == (".cache", "quantize-pipeline", "fonts") for path in made)
    assert {path.name for path in tmp_path.iterdir()} == {".cache"}
    # And the command that clears the cache clears it.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    assert main(["cache", "clear"]) == 0
    assert files_in(tmp_path) == []
    assert "freed" in capsys.readouterr().out


def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert draws(tmp_path / "file") == ""  # no folder can be made below a file, not even by root
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    home, own = tmp_path / "home", tmp_path / "own"
    home.mkdir()
    assert draws(home, MPLCONFIGDIR=str(own)) == ""
    assert files_in(own)
    assert files_in(home) == []


def test_a_named_cache_is_not_searched_for_fonts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "mine.ttf").write_bytes(b"mine")
    assert main(["cache", "clear", f"--cache_dir={tmp_path}"]) == 0
    assert (tmp_path / "fonts" / "mine.ttf").read_bytes() == b"mine"
    assert "0.0 MB freed" in capsys.readouterr().out
