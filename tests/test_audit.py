"""What the audit makes of pip-audit's answers; no answer is never taken for a good one."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "audit.py"))

FINE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"], "aliases": ["CVE-1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1)"}


@pytest.mark.parametrize(
    ("packages", "code", "part"),
    [
        ([FINE], 0, "no known vulnerability in 1 "),
        ([FINE, BAD], 1, "b 2: PYSEC-1, mended in ['3']"),
        ([UNKNOWN, BAD], 1, "PYSEC-1"),
        ([FINE, UNKNOWN], 0, "in 1 pinned packages; not looked up: c"),
        ([UNKNOWN], 0, "NOT DONE, the service that was reached has data about none"),
        ([], 0, "NOT DONE"),
    ],
)
def test_answers(packages: list[dict[str, Any]], code: int, part: str) -> None:
    found, text = SCRIPT["verdict"](json.dumps({"dependencies": packages, "fixes": []}), "")
    assert found == code
    assert part in text


@pytest.mark.parametrize("answer", ["", "{}", "[]", "Traceback"])
def test_no_answer_is_said(answer: str) -> None:
    code, text = SCRIPT["verdict"](answer, "Traceback\nConnectionError: no route")
    assert code == 0
    assert "NOT DONE" in text
    assert "ConnectionError: no route" in text


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_what_is_accepted_is_no_finding(name: str) -> None:
    SCRIPT["ACCEPTED"][name] = "the part is never used"
    try:
        code, _ = SCRIPT["verdict"](json.dumps({"dependencies": [BAD]}), "")
    finally:
        del SCRIPT["ACCEPTED"][name]
    assert code == 0
