"""All targets by name; a new one is a module with a TARGET, its name here, and seeds in make_corpus.py."""

from __future__ import annotations

import importlib

from fuzz.harness import Target

# Name -> the packages in which new paths are looked for: the readers, and what parses in Python below.
# Compiled code is not seen, and watching more makes every run longer.
WATCHED: dict[str, tuple[str, ...]] = {
    "cache_entry": ("calibration.entry",),
    "configuration": ("quantize.config", "calibration.transforms", "yaml"),
    "development_kit": ("quantize.acquire", "quantize.labels", "calibration", "tarfile"),
    "image": ("calibration", "PIL"),
    "image_list": ("calibration",),
    "labels": ("quantize.acquire", "quantize.labels", "calibration"),
    "model": ("quantize",),
    "records": ("quantize.diagnose.record", "quantize.package.evidence", "quantize.package.manifest"),
    "validation_archive": ("quantize.acquire", "quantize.files", "tarfile"),
}
NAMES = tuple(WATCHED)


def load(name: str) -> Target:
    """Imports a target; only then, so that the fuzzer can instrument what it imports."""
    target: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return target
