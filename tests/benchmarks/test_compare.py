"""The comparison as a whole, on the bundled example's network and a few digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare, contenders
from benchmarks.contenders import Contender

FLAGS = "--quant_format=QDQ --refine=none --no_html"


def test_ours_cold_and_warm(
    digits: Path, project_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        f"--model={project_root / 'examples' / 'digits' / 'digits-mobilenetv2.onnx'}",
        f"--images={digits}",
        f"--labels={digits / 'val.txt'}",
        f"--config={digits / 'config.yaml'}",
        *("--repeats=1", "--rounds=1", f"--out={tmp_path}", f"--scratch={tmp_path}"),
        *(f"--flags={FLAGS}", f"--only=ours {FLAGS}, cold"),
        f"--only=ours {FLAGS}, warm",
    ]
    assert compare.main(arguments) == 0
    out = capsys.readouterr().out
    assert f"ours {FLAGS}, cold" in out
    results = json.loads((tmp_path / "results.json").read_text())
    (cold,), (warm,) = (results["runs"][f"ours {FLAGS}, {kind}"] for kind in ("cold", "warm"))
    assert (cold["images_decoded"], warm["images_decoded"]) == (120, 0)
    quality = results["quality"][f"ours {FLAGS}, cold, QDQ"]
    # Those that no variant of the command learns from or chooses by: refinement holds some back.
    assert 0 < quality["images"] <= 90
    assert f"{quality['images']} images" in out
    assert 0.5 < quality["agreement_fraction"] <= 1
    assert quality["integer_operators"] > 0
    assert results["quality"]["fp32"]["kl_nats"] == 0
    assert "<svg" in (tmp_path / "wall.svg").read_text()


def test_everybody_takes_part_who_can(monkeypatch: pytest.MonkeyPatch) -> None:
    found = contenders.contenders([["--a"], ["--b", "--c=1"]])
    names = [one.name for one in found]
    assert names[:4] == ["ours --a, cold", "ours --a, warm", "ours --b --c=1, cold", "ours --b --c=1, warm"]
    assert names[4:6] == ["INC example", "ORT quantize_static"]
    monkeypatch.setattr(contenders.importlib.util, "find_spec", lambda name: object())
    assert contenders.contenders([[]])[-1] == Contender("NNCF", "nncf_ptq")
