"""A model: ONNX bytes -> the checked model, its signature, and what of it can be int8."""

from __future__ import annotations

from pathlib import Path

from fuzz.harness import Target, each, file_of
from fuzz.messages import mutated_model
from quantize.graph import GraphIndex, tensor_names
from quantize.model import load_model, read_signature, require_float, serialize
from quantize.operators import take_inventory
from quantize.target import PORTABLE


def run(data: bytes) -> None:
    """Reads a model as a run does (`--input_model`), and as one that others quantized (`--start_from`)."""
    with file_of(data, "fuzzed.onnx") as path:
        each(lambda: _read(path, strict=True), lambda: _read(path, strict=False))


def _read(path: Path, *, strict: bool) -> None:
    model = load_model(path, strict=strict)
    each(
        lambda: require_float(model, path),
        lambda: read_signature(model, path),
        lambda: tensor_names(model.graph),
        lambda: GraphIndex(model.graph).consumers,
        lambda: serialize(model, {"fuzzed": "yes"}),
    )
    if strict:
        # The rest of a run works on what passed both.
        require_float(model, path)
        read_signature(model, path)
        take_inventory(model, PORTABLE)


TARGET = Target("model", "models", run, max_bytes=8192, short_runs=2500, mutate=mutated_model)
