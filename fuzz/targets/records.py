"""JSON that we wrote once and that may come back changed: sensitivity, report, manifest."""

from __future__ import annotations

from fuzz.harness import Target, each, file_of, scratch
from quantize.diagnose.record import read_record
from quantize.package.evidence import find_evidence
from quantize.package.manifest import merged

# Of the model that the seeds' reports are about.
SHA256 = "0" * 64


def run(data: bytes) -> None:
    """Reads the bytes as each of them."""
    with file_of(data, "fuzzed.json") as path:
        each(
            lambda: read_record(path, "--sensitivity"),
            lambda: find_evidence(scratch() / "model.onnx", SHA256, path),
            lambda: merged(path, [{"model": "m", "opset_version": 13}]),
        )


TARGET = Target("records", "reports, manifests and sensitivity files", run, max_bytes=8192, short_runs=800)
