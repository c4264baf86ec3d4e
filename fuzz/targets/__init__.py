"""All targets by name; a new one is a module with a TARGET, its name here, and seeds in make_corpus.py."""

from __future__ import annotations

import importlib

from fuzz.harness import Target

NAMES = (
    "cache_entry",
    "configuration",
    "development_kit",
    "image",
    "image_list",
    "labels",
    "model",
    "records",
    "validation_archive",
)


def load(name: str) -> Target:
    """Imports a target; only then, so that the fuzzer can instrument what it imports."""
    target: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return target
