from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantize.errors import InputError
from quantize.package.manifest import merged

ENTRY = {"model": "Net", "opset_version": 12, "metadata": {"model_sha": "a"}}


def test_a_new_manifest_is_a_list(tmp_path: Path) -> None:
    assert json.loads(merged(tmp_path / "none.json", [ENTRY])) == [ENTRY]


def test_entries_of_the_same_model_and_opset_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    other = {"model": "Other", "opset_version": 12}
    older = {**ENTRY, "opset_version": 10}
    path.write_text(json.dumps([ENTRY, other, older]), encoding="utf-8")
    new = {**ENTRY, "metadata": {"model_sha": "b"}}
    assert json.loads(merged(path, [new])) == [new, other, older]


@pytest.mark.parametrize("content", ["{", "[1]", '[{"name": "x"}]', "3"])
def test_what_is_no_manifest_is_not_overwritten(content: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.json: is not a manifest"):
        merged(path, [ENTRY])
    assert path.read_text(encoding="utf-8") == content
