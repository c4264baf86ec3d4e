"""Where a run took place: for information only, no artefact depends on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = (
    "neural-compressor",
    "numpy",
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "pydantic",
    "rich",
)
# The instruction sets that decide which integer kernels run; of the many that a CPU has.
_FEATURES = frozenset(
    {"avx2", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm"}
)
_CPUINFO = Path("/proc/cpuinfo")


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def platform_facts(cpuinfo_path: Path = _CPUINFO) -> dict[str, Any]:
    """Python, system, and the CPU with the features that int8 kernels depend on (where Linux tells them)."""
    name, features = _cpu(cpuinfo_path)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": name,
        "cpu_features": features,
        "cpu_count": os.cpu_count() or 1,
    }


def _cpu(cpuinfo_path: Path) -> tuple[str, list[str]]:
    try:
        text = cpuinfo_path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor(), []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags") or fields.get("features") or ""
    return fields.get("model name") or platform.processor(), sorted(_FEATURES & set(flags.split()))
