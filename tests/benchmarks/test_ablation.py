"""The ablation: its steps are settings that exist, and its table says what was measured."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks import ablation
from benchmarks.ablation import STEPS, Row, main, shown
from quantize.config import Config
from quantize.demo_data import write_digits_dataset
from quantize.diagnose.options import ReportOptions


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_a_configuration(step: str) -> None:
    config = Config.from_mapping({}).with_overrides(STEPS[step])
    assert config.refine.effort == ("none" if step == "engine alone" else config.refine.effort)


def test_the_steps_build_on_each_other() -> None:
    passes = ("centre", "equalize", "weights", "biases", "gain")
    chain = [step for step in STEPS if step.startswith("+")][:-1]
    on = [sum(bool(STEPS[step].get(f"refine.{name}")) for name in passes) for step in chain]
    assert on == [0, 1, 2, 3, 4, 5]


def test_the_table_has_means_and_the_spread() -> None:
    rows = [Row("a", 1, 0.9, 0.01, 3, 1, 10, 2.0), Row("a", 2, 1.0, 0.03, 1, 1, 10, 4.0)]
    text = shown(rows)
    for figure in ("95.00%", "0.0200", "0.0100 to 0.0300", "+1.0"):
        assert figure in text


def test_it_measures_what_was_written(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing of the table is from the pages, which take longer than all that it measures.
    monkeypatch.setattr(ablation, "tune", partial(ablation.tune, report=ReportOptions(pages=False)))
    digits = write_digits_dataset(tmp_path / "digits", evaluation_count=350)
    names = [path.relative_to(digits.evaluation) for path in sorted(digits.evaluation.rglob("*.png"))]
    listed = tmp_path / "val.txt"
    listed.write_text("".join(f"{name.as_posix()} {name.parts[0]}\n" for name in names))
    config = (project_root / "configs" / "demo_digits.yaml").read_text(encoding="utf-8")
    (tmp_path / "c.yaml").write_text(config.replace("<DIR>", str(digits.root)), encoding="utf-8")
    arguments = {
        "model": project_root / "examples" / "digits" / "digits-mobilenetv2.onnx",
        "images": digits.evaluation,
        "labels": listed,
        "config": tmp_path / "c.yaml",
        "seeds": "1",
        "out": tmp_path / "rows.json",
    }
    words = [f"--{name}={value}" for name, value in arguments.items()]
    assert main([*words, "--steps", "engine alone", "+ gain (fast)"]) == 0
    plain, refined = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert plain["refine_s"] == 0 < refined["refine_s"]
    assert plain["images"] == refined["images"] + 50  # the images that chose between variants
    assert min(plain["agreement"], refined["agreement"]) > 0.99
