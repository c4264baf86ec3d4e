"""File names that are meant to be obeyed somewhere on their way through the program."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from quantize.cli import main
from tests.quantize.image_samples import CLASSES, TRANSFORM
from tests.robustness.runs import COUNT

HOSTILE = {
    "markup": b"<script>alert(1)</script>.png",
    "quotes": b"a'\"`$(touch owned);&|.png",
    "an escape sequence": b"a\x1b[2Jb\x07.png",
    "a new line": b"a\nb.png",
    "no UTF-8": b"a\xff\xfe\x80.png",
    "turned writing": "a\u202egnp.png".encode(),
    "a dash in front": b"--help.png",
    "a formula": b"=1+1.png",
    "only dots and spaces": b" .. .png",
}


def _slashless(name: bytes) -> bytes:
    return name.replace(b"/", b"\xe2\x81\x84")  # looks like one


@pytest.mark.robustness(
    "Data",
    "Files are called by markup, quotes, escape sequences, new lines, bytes that are no UTF-8, turned text "
    "or flags; a whole run reads them, and `predict` after it",
    "Every byte arrives: in the lists, the cache, report.json, the pages, CSV and JSON, escaped if it might "
    "do harm; nothing is run, nothing printed raw",
    times=len(HOSTILE),
)
def test_hostile_names_through_everything(
    images: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [os.fsdecode(_slashless(name)) for name in HOSTILE.values()]
    for label in range(CLASSES):
        for number, path in enumerate(sorted((images / str(label)).iterdir())):
            if number < len(names):
                path.rename(path.with_name(names[number]))
    (images / "val.txt").unlink()
    config = tmp_path / "c.yaml"
    dataset = {"ImageFolder": {"root": str(images)}}
    loader = {"dataset": dataset, "transform": TRANSFORM}
    content = {
        "quantization": {"calibration": {"sampling_size": 10, "dataloader": loader}},
        "refine": {"effort": "none"},
        "tuning": {"accuracy_criterion": {"absolute": 0.9}},
    }
    config.write_text(json.dumps(content))
    command = ["tune", f"--input_model={model}", f"--config={config}", "--output_model=out"]
    assert main([*command, f"--cache_dir={tmp_path}/cache"]) == 0
    out, err = capsys.readouterr()
    assert not set("\x1b\x07\u202e") & set(out + err)
    report = json.loads(next((tmp_path / "out").glob("*.json")).read_bytes())
    assert report["images"]["calibration"]["count"] + report["images"]["evaluation"]["count"] == COUNT
    html = next((tmp_path / "out").glob("*.html")).read_text(encoding="utf-8")
    assert "<script" not in html
    for page in (html, next((tmp_path / "out").glob("*.md")).read_text(encoding="utf-8")):
        assert not set("\x1b\x07\u202e") & set(page)
    # A list can name all of them but for the one with a new line.
    listed = sorted(name for name in names if "\n" not in name)
    lines = b"".join(b"0/" + os.fsencode(name) + b" 0\n" for name in listed)
    (images / "val.txt").write_bytes(lines)
    judged = ["evaluate", f"--input_model={model}", f"--config={config}", f"--dataset_location={images}"]
    command = [*judged, f"--label_path={images}/val.txt", "--calibration_samples=2", "--json", "-q"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["images"] == len(listed) - 2
    folder = str(images / "0")
    assert main(["predict", str(model), folder, f"--config={config}", "--json", "-q"]) == 0
    document = json.loads(capsys.readouterr().out)
    predicted = {Path(one["image"]).name for one in document["images"]}
    assert set(names) <= predicted
    assert main(["predict", str(model), folder, f"--config={config}", "--format=csv", "--top_k=1", "-q"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 1 + len(predicted)
    assert not any(set("\x1b\x07\u202e\n") & set(cell) for row in rows for cell in row)
    assert not (tmp_path / "owned").exists()
