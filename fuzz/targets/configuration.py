"""A configuration: YAML text -> everything that a run asks it for before it looks at an image."""

from __future__ import annotations

from calibration.transforms import build_pipeline
from fuzz.harness import Target, each, file_of
from quantize.config import Config
from quantize.config.document import read_document


def run(data: bytes) -> None:
    """Reads, validates, and asks for what the pipeline asks for."""
    with file_of(data, "fuzzed.yaml") as path:
        config = Config.from_document(read_document(path))
        each(
            config.config_hash,
            lambda: config.warnings,
            lambda: config.criterion,
            lambda: config.target,
            lambda: build_pipeline(config.calibration_data().transform).to_json(),
            lambda: build_pipeline(config.evaluation_data().transform).output_spec(),
            config.performance_data,
            lambda: config.keeps_in_fp32("conv_1", "Conv"),
            lambda: config.unmatched_patterns([("conv_1", "Conv")]),
        )


TARGET = Target("configuration", "configurations", run, max_bytes=4096, short_runs=250)
