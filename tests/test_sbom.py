"""The bill of materials names what is installed here, fits CycloneDX's schema, and is the same every time."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "scripts" / "sbom.py"


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def text() -> str:
    pytest.importorskip("cyclonedx", reason="needs cyclonedx-python-lib (in the extra supply)")
    done = run(SOURCE_DATE_EPOCH="1700000000", PYTHONHASHSEED="1")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return content


def test_it_names_what_is_installed(bill: dict[str, Any]) -> None:
    found = {one["name"]: one["version"] for one in bill["components"]}
    for name in ("neural-compressor", "onnx", "onnxruntime", "numpy", "pillow", "pydantic-core"):
        assert found[name] == metadata.version(name)
    assert "pytest" not in found  # nothing that only development needs
    assert bill["metadata"]["component"]["name"] == "quantize-pipeline"
    assert all(one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}" for one in bill["components"])


def test_it_says_what_depends_on_what(bill: dict[str, Any]) -> None:
    of = {entry["ref"].partition("@")[0]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert any(other.startswith("pkg:pypi/neural-compressor@") for other in of["pkg:pypi/quantize-pipeline"])
    assert any(other.startswith("pkg:pypi/pydantic-core@") for other in of["pkg:pypi/pydantic"])


def test_it_fits_the_schema_that_is_published(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    broken = text.replace('"library"', '"books"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


@pytest.mark.robustness(
    "Same bytes",
    "the bill of materials is made again, with another hash seed and time zone",
    "is the same, byte for byte",
)
def test_it_is_the_same_every_time(text: str, bill: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    again = run("--output", path, SOURCE_DATE_EPOCH="1700000000", PYTHONHASHSEED="2", TZ="Asia/Tokyo")
    assert again.returncode == 0, again.stderr
    assert path.read_text(encoding="utf-8") == text
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f-]{17}", bill["serialNumber"])


def test_a_time_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(SCRIPT))
    for epoch in ("yesterday", "1e3", "99999999999999999999"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        with pytest.raises(script["BillError"], match="SOURCE_DATE_EPOCH"):
            script["finished"]({"serialNumber": "", "metadata": {"timestamp": ""}})
