"""ImageNet's development kit: an archive of any compression, with a text and a MATLAB file in it."""

from __future__ import annotations

from fuzz.harness import Target, file_of
from quantize.acquire.ground_truth import read_devkit


def run(data: bytes) -> None:
    """Reads the ground truth out of it."""
    with file_of(data, "kit.tar.gz") as path:
        truth = read_devkit(path)
    assert all(0 <= label < len(truth.labels) for label in truth.in_order)


TARGET = Target(
    "development_kit",
    "ImageNet's development kits, with their MATLAB files",
    run,
    max_bytes=16384,
    short_runs=800,
)
