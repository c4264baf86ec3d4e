"""What the evaluation keeps of the runtime's speed, on a few digits; and how benchmarks end."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ending import end_with
from benchmarks.evaluation import main, measure, shown
from benchmarks.process import ProgramFailed


def arguments(digits: Path, project_root: Path) -> list[str]:
    return [
        f"--model={project_root / 'examples' / 'digits' / 'digits-mobilenetv2.onnx'}",
        f"--images={digits}",
        f"--labels={digits / 'val.txt'}",
        f"--config={digits / 'config.yaml'}",
        "--rounds=1",
    ]


def test_every_way_is_timed(digits: Path, project_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(digits, project_root)) == 0
    (*_, row) = capsys.readouterr().out.strip().splitlines()
    name, *figures = row.split()
    assert name == "digits-mobilenetv2.onnx"
    assert len(figures) == 6
    assert all(float(figure.rstrip("%")) > 0 for figure in figures)


def test_shares_are_of_what_is_possible() -> None:
    """100 images/s in memory and 300 decoded allow 75 from files; medians of ratios, round by round."""
    rates = {
        "memory": [100.0, 100.0, 50.0],
        "cache": [90.0, 95.0, 48.0],
        "files": [60.0, 60.0, 60.0],
        "decoding": [300.0, 300.0, 300.0],
    }
    (*_, row) = shown({"m": rates}).splitlines()
    assert row.split() == ["m", "100", "90", "95.0%", "300", "60", "80.0%"]


def test_a_further_model_that_is_not_there_is_told_before_anything_is_timed(
    digits: Path, project_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{measure.__module__}.measure", lambda *_, **__: pytest.fail("timed"))
    words = [*arguments(digits, project_root), "--also", "INT8=x.onnx"]
    with pytest.raises(SystemExit) as ended:
        end_with(lambda: main(words))
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: INT8=x.onnx: does not exist; give the path of an .onnx file"
    ]


@pytest.mark.parametrize("error", [ProgramFailed("a: ended with 1: b"), FileNotFoundError(2, "no", "f")])
def test_what_fails_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        end_with(failing)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_program_that_ends_well_ends_so() -> None:
    with pytest.raises(SystemExit) as ended:
        end_with(lambda: 0)
    assert ended.value.code == 0
