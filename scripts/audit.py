"""Asks whether a pinned package has a known vulnerability; needs the extra `supply`, and a network.

Usage: PYTHON scripts/audit.py

The lock is read, nothing is resolved or installed. Where the service that knows vulnerabilities does not
answer, or does not know the packages (a mirror without its data says that it has none of them), the last line
says so: that is no answer, and no failure either.

Exit codes: 0 none is known, or nobody could be asked; 1 one is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "requirements-dev.lock"

# Identifier -> why it does not reach us.
ACCEPTED: dict[str, str] = {}

# The service must not hold up the other checks.
LIMIT_S = 60


def asked() -> tuple[str, str]:
    """What pip-audit says: its answer as JSON, empty if it has none, and its complaints."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format=json"]
    command += ["--progress-spinner=off", "--timeout=10", f"--requirement={LOCK}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {LIMIT_S} s"
    return done.stdout, done.stderr


def verdict(answer: str, complaints: str) -> tuple[int, str]:
    """Exit code, and what to print."""
    try:
        packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (complaints.strip().splitlines() or ["it said nothing"])[-1]
        return 0, f"audit: NOT DONE, the service could not be asked ({reason[:150]})"
    known = [
        f"{package['name']} {package['version']}: {found['id']}, mended in {found['fix_versions']}"
        for package in packages
        for found in package.get("vulns", ())
        if found["id"] not in ACCEPTED and not set(found.get("aliases", ())) & set(ACCEPTED)
    ]
    unknown = sorted({package["name"] for package in packages if "skip_reason" in package})
    if known:
        return 1, "\n".join(["audit: known vulnerabilities", *known])
    if len(unknown) == len({package["name"] for package in packages}):
        return 0, "audit: NOT DONE, the service that was reached has data about none of the packages"
    text = f"audit: no known vulnerability in {len(packages) - len(unknown)} pinned packages"
    return 0, f"{text}; not looked up: {', '.join(unknown)}" if unknown else text


def main() -> int:
    """Asks, tells, and returns the exit code."""
    code, text = verdict(*asked())
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
