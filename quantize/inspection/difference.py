"""What tells two models apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantize.graph import GraphIndex
from quantize.inspection.facts import ModelFacts
from quantize.inspection.quantities import quantities_of


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same: what it is, and how it is in either model; None means absent."""

    what: str
    left: Any
    right: Any

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"what": self.what, "left": self.left, "right": self.right}


def differences(
    left: ModelFacts, left_model: onnx.ModelProto, right: ModelFacts, right_model: onnx.ModelProto
) -> list[Difference]:
    """Everything that differs, from the file to single constants; empty for two files with the same bytes."""
    if left.sha256 == right.sha256:
        return []
    found = _of_mappings("", _overview(left), _overview(right))
    found += _of_mappings("operators.", left.operators, right.operators)
    found += _of_mappings("metadata.", left.metadata, right.metadata)
    layers = [
        {layer.name: f"{layer.op_type}, {layer.dtype}, {layer.size_bytes} bytes" for layer in facts.layers}
        for facts in (left, right)
    ]
    found += _of_mappings("layers.", *layers)
    indices = GraphIndex(left_model.graph), GraphIndex(right_model.graph)
    found += _of_quantities(*indices)
    found += _of_constants(*indices)
    return found


def _overview(facts: ModelFacts) -> dict[str, Any]:
    integer = None if facts.coverage is None else facts.coverage.integer_weighted
    weighted = None if facts.coverage is None else facts.coverage.weighted
    return {
        "size_bytes": facts.size_bytes,
        "constants_bytes": facts.constants_bytes,
        "ir_version": facts.ir_version,
        "producer": facts.producer,
        "opsets": dict(facts.opsets),
        "inputs": [port.to_json() for port in facts.inputs],
        "outputs": [port.to_json() for port in facts.outputs],
        "runtime.integer_weighted": integer,
        "runtime.weighted": weighted,
    }


def _of_mappings(prefix: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    keys = dict.fromkeys([*left, *right])
    return [
        Difference(f"{prefix}{key}", left.get(key), right.get(key))
        for key in keys
        if left.get(key) != right.get(key)
    ]


def _of_quantities(left: GraphIndex, right: GraphIndex) -> list[Difference]:
    """Of the tensors that both have quantized; those that only one has show in its operators."""
    ours, theirs = quantities_of(left), quantities_of(right)
    found = []
    for name in ours:
        if name not in theirs:
            continue
        one, other = (
            {"dtype": q.dtype, "scale": list(q.scale), "zero_point": list(q.zero_point)}
            for q in (ours[name], theirs[name])
        )
        found += _of_mappings(f"tensors.{name}.", one, other)
    return found


def _of_constants(left: GraphIndex, right: GraphIndex) -> list[Difference]:
    """Constants of the same name, type and shape whose values differ, by how many values."""
    found = []
    for name in left.initializers:
        ours, theirs = left.array(name), right.array(name)
        if ours is None or theirs is None or ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            continue
        if ours.tobytes() != theirs.tobytes():
            count = int(np.count_nonzero(ours != theirs))
            found.append(Difference(f"constants.{name}.different_values", count, count))
    return found
