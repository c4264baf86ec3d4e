from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from quantize.cli import main
from tests.quantize.acquire.archives import write_devkit, write_val_tar
from tests.quantize.acquire.server import Behaviour, serving
from tests.quantize.cli_stand_ins import failed
from tests.quantize.conftest import ModelFiles


def test_model_by_address_and_by_file(
    model_files: ModelFiles,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = model_files.fp32.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    with serving(Behaviour(content, cut_after=[1000])) as server:
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        assert (
            main(["prepare", "model", server.url, f"--output={tmp_path}", f"--sha256={sha256}", "--json"])
            == 0
        )
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "path": str(tmp_path / "net.onnx"),
        "sha256": sha256,
        "size_bytes": len(content),
        "known": None,
        "downloaded": True,
    }
    assert main(["prepare", "model", str(tmp_path / "net.onnx")]) == 0
    assert "was there already" in capsys.readouterr().out


def test_imagenet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, kit = write_val_tar(tmp_path / "val.tar"), write_devkit(tmp_path / "kit.tar.gz")
    command = ["prepare", "imagenet", f"--val_tar={archive}", f"--devkit={kit}", f"--out={tmp_path / 'out'}"]
    assert "expected 5f3f73da" in failed(capsys, *command)
    sha1 = hashlib.sha1(archive.read_bytes()).hexdigest()
    assert main([*command, f"--sha1={sha1}"]) == 0
    assert capsys.readouterr().out.startswith("6 images, 6 of them new; use them with --dataset_location=")
    assert main([*command, "--sha1=any", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["count"], document["written"]) == (6, 0)
    assert Path(document["label_path"]).is_file()


def test_contradictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", "imagenet", "--val_tar=v.tar", "--out=o"]
    assert "give one of them" in failed(capsys, *command)
    assert "give one of them" in failed(capsys, *command, "--devkit=a", "--ground_truth=b")
    assert "--synsets has no effect with --devkit" in failed(capsys, *command, "--devkit=a", "--synsets=b")
    assert "prepare needs WHAT" in failed(capsys, "prepare")
