"""The report of a run in which everything that a user may name is hostile."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest

from quantize.demo_data import write_digits_dataset
from quantize.report.build import SCHEMA_PATH
from tests.end_to_end.conftest import Run, Runner
from tests.end_to_end.test_demo import _unbalance
from tests.quantize.report.test_pages import SECTIONS, Page

CLASS = "3 </style><script>alert(1)</script>"
MODEL = "m'\"<i>&|`x`.onnx"


def file_name(number: int) -> bytes:
    """Neither UTF-8 nor fit for a page."""
    return b"\xff<b onmouseover='x'>|\n`%d`.png" % number


@pytest.fixture(scope="module")
def hostile(project_root: Path, run_program: Runner, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A network that int8 ruins, on images with hostile names."""
    folder = tmp_path_factory.mktemp("hostile")
    digits = write_digits_dataset(folder / "set <&> x").root
    for images in (digits / "calibration", digits / "evaluation"):
        for number, path in enumerate(sorted((images / "3").iterdir())):
            os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/" + file_name(number))
        shutil.move(images / "3", images / CLASS.replace("/", "\u2215"))
    config = (project_root / "configs" / "demo_digits.yaml").read_text(encoding="utf-8")
    (folder / "c.yaml").write_text(config.replace("<DIR>", str(digits)), encoding="utf-8")
    model = onnx.load(project_root / "examples" / "digits" / "digits-mobilenetv2.onnx")
    _unbalance(model.graph)
    onnx.save(model, folder / MODEL)
    return run_program(
        f"--input_model={folder / MODEL}", f"--config={folder / 'c.yaml'}", "--max_trials=1", "--refine=none"
    )


@pytest.fixture(scope="module")
def content(hostile: Run) -> dict[str, Any]:
    assert hostile.code == 1, hostile.stderr
    assert "Traceback" not in hostile.stderr
    assert sorted(path.name for path in hostile.folder.iterdir()) == [
        f"report-failed.{suffix}" for suffix in ("html", "json", "md")
    ]
    made: dict[str, Any] = json.loads((hostile.folder / "report-failed.json").read_text(encoding="utf-8"))
    return made


def test_the_data_tell_all(content: dict[str, Any]) -> None:
    jsonschema.validate(content, json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))
    changed = content["diagnosis"]["changed_images"]
    outcomes = content["models"]["int8"][changed["format"]]["decline"]["top1"]["outcomes"]
    assert (changed["lost_count"], changed["won_count"]) == (outcomes["lost"], outcomes["won"])
    assert len(changed["shown"]) == 24
    for image in changed["shown"]:
        assert image["fp32"][0]["class"] != image["int8"][0]["class"]
        assert (image["fp32"][0]["class"] == image["label"]) == (image["kind"] == "lost")
        assert image["file"].partition("/")[0] == image["label_name"]
    signal = content["diagnosis"]["signal"]
    assert signal["images"] == 16
    # What the largest channel leaves to the others shows behind the next convolution: more noise than signal.
    assert min(one["sqnr_db"] for one in signal["tensors"] if one["sqnr_db"] is not None) < 6


def test_names_survive_in_the_data(content: dict[str, Any]) -> None:
    shown = [image["file"] for image in content["diagnosis"]["changed_images"]["shown"]]
    threes = [os.fsencode(name) for name in shown if name.startswith("3 <")]
    assert threes, shown
    assert all(b"/\xff<b onmouseover='x'>|\n`" in name for name in threes)


def test_the_page_is_whole_and_shows_the_images(hostile: Run) -> None:
    page = Page((hostile.folder / "report-failed.html").read_text(encoding="utf-8"))
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    images = page.all("img")
    assert len(images) == 24
    assert all(one["src"].startswith("data:image/jpeg;base64,") for one in images)
    assert all(one["class"] == "tiny" for one in images)  # digits
    assert "script" not in {tag for tag, _ in page.elements}
    assert MODEL in page.words
    assert "\\udcff<b onmouseover='x'>|\\n`" in page.words


def test_the_text_is_whole(hostile: Run) -> None:
    text = (hostile.folder / "report-failed.md").read_text(encoding="utf-8")
    assert text.count("\n## ") == 4
    assert "**FAIL**" in text
