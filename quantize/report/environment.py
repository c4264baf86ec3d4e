"""Where a run took place: for information only, no artefact depends on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quantize.processor import CPUINFO, cpu

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


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def platform_facts(cpuinfo_path: Path = CPUINFO) -> dict[str, Any]:
    """Python, system, and the CPU with the features that int8 kernels depend on (where Linux tells them)."""
    name, features = cpu(cpuinfo_path)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": name,
        "cpu_features": features,
        "cpu_count": os.cpu_count() or 1,
    }
