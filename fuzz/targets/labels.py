"""Names of classes and ground truth: text files in several formats, and numbers in them."""

from __future__ import annotations

from fuzz.harness import Target, each, file_of
from quantize.acquire.ground_truth import read_ground_truth
from quantize.labels import read_labels


def run(data: bytes) -> None:
    """Reads the bytes as each of the formats; before the first NUL as numbers, behind it as their synsets."""
    first, _, second = data.partition(b"\0")
    with file_of(first, "fuzzed.txt") as path, file_of(second, "synsets.txt") as synsets:
        each(
            lambda: read_labels(path),
            lambda: read_labels(path, classes=2),
            lambda: read_ground_truth(path, None),
            lambda: read_ground_truth(path, synsets),
        )


TARGET = Target("labels", "names of classes and ground truth", run, max_bytes=512, short_runs=2000)
