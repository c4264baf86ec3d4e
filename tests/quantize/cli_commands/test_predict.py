from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from quantize.cli import main
from tests.quantize.cli_stand_ins import failed
from tests.quantize.conftest import CLASSES, ModelFiles
from tests.quantize.prediction.conftest import config, photos

__all__ = ["config", "photos"]  # fixtures

HOSTILE = "n01440764 \x1b]0;owned\x07 tench\u202e"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "synset.txt"
    path.write_text("\n".join([HOSTILE] * CLASSES), encoding="utf-8")
    return path


@pytest.fixture
def words(model_files: ModelFiles, photos: list[Path], config: Path, labels: Path) -> list[str]:
    return ["predict", str(model_files.fp32), *map(str, photos), f"--config={config}", f"--labels={labels}"]


def test_table(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--top-k=2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 1 + 2 * 11
    assert lines[0].split() == ["image", "class", "share", "name"]
    assert "00.png" in lines[1]
    assert all(r"\x1b]0;owned\x07 tench\u202e"[:29] in line for line in lines[1:])
    assert out.replace("\n", "").isprintable()
    assert err == ""


def test_without_labels_a_note_says_how_to_get_names(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    unnamed = [word for word in words if not word.startswith("--labels")]
    assert main(unnamed) == 0
    assert "note: no --labels: classes have numbers only" in capsys.readouterr().err
    for silent in ("--json", "--format=csv", "--quiet"):  # for programs, or asked not to
        assert main([*unnamed, silent]) == 0
        assert "--labels" not in capsys.readouterr().err


def test_json_lines_and_the_document_say_the_same(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--format=jsonl"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    records: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 11
    assert records[0]["predictions"][0]["wnid"] == "n01440764"
    assert records[0]["predictions"][0]["name"] == HOSTILE.partition(" ")[2]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == records
    assert document["summary"] == {"images": 11, "failed": 0}


def test_names_that_are_no_utf8_come_back_as_they_were(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, image = (tmp_path / os.fsdecode(name) for name in (b"n\xe9.onnx", b"caf\xe9.png"))
    shutil.copy(words[1], model)
    shutil.copy(words[2], image)
    gone = tmp_path / os.fsdecode(b"gone\xe9.png")
    assert main(["predict", str(model), str(image), str(gone), *words[-2:], "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["models"] == [str(model)]
    assert [one["image"] for one in document["images"]] == [str(image), str(gone)]


def test_csv(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words[:2], "gone.png", *words[2:], "--format=csv"]) == 1
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 11 * 5 + 1
    assert [row["rank"] for row in rows[1:6]] == list("12345")
    assert rows[1]["name"] == r"\x1b]0;owned\x07 tench\u202e"
    assert rows[0]["error"]
    assert rows[0]["class"] == ""
    assert err.startswith("error: gone.png: ")


def test_comparison(words: list[str], model_files: ModelFiles, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*words, f"--compare={model_files.qdq}"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    differing = [image for image in document["images"] if not image["agree"]]
    assert document["summary"]["disagreements"] == len(differing)
    assert main([*words, "--top_k=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"{len(differing)} of 11 images get another class; mean KL divergence ")
    assert len(lines) == (2 + len(differing) if differing else 0) + 1
    assert main([*words, "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["other_class"] for row in rows if row["rank"] == "1"} == {
        str(image["other"][0]["class"]) for image in document["images"]
    }


def test_contradictions_and_missing_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json and --format=csv contradict" in failed(capsys, *words, "--json", "--format=csv")
    assert failed(capsys, "predict") == "predict needs MODEL, IMAGES; see --help"
    assert failed(capsys, *words, "--lables=x").startswith(
        "--lables is no flag of predict; did you mean '--labels'?"
    )
    assert failed(capsys, "predict", "gone.onnx", "x.png").startswith("gone.onnx: does not exist")


def test_an_image_from_standard_input(
    words: list[str], photos: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photos[0].read_bytes())))
    piped = [words[0], words[1], "-", *words[-2:]]
    assert main([*piped, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["images"]
    assert main([*piped[:2], str(photos[0]), *piped[3:], "--json"]) == 0
    (named,) = json.loads(capsys.readouterr().out)["images"]
    assert found["image"] == "-"
    assert found["predictions"] == named["predictions"]


def test_a_damaged_image_from_standard_input(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\x89PNG\r\n\x1a\n")))
    assert main([words[0], words[1], "-", *words[-2:], "--json"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: -: is empty, damaged, or no image")
    assert json.loads(out)["summary"] == {"images": 0, "failed": 1}
