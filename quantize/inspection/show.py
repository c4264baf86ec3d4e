"""Facts about models as text. Names in a model may hold anything, so all of them are made printable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantize.inspection.difference import Difference
from quantize.inspection.facts import ModelFacts, Port
from quantize.inspection.tensors import TensorFacts
from quantize.printable import printable

_NAME_COLUMNS = 26
_LAYERS_SHOWN = 10
_SCALES_SHOWN = 6
_VALUE_COLUMNS = 60


def model_text(facts: ModelFacts, *, all_layers: bool = False) -> str:
    """A page about one model.

    Args:
        facts: of the model.
        all_layers: list every layer, in graph order, instead of the largest.
    """
    opsets = ", ".join(f"{name or 'ai.onnx'} {version}" for name, version in facts.opsets.items())
    rows = [
        ("file", str(facts.path)),
        ("size", f"{facts.size_bytes:,} bytes, {facts.constants_bytes:,} of them constants"),
        ("SHA-256", facts.sha256),
        ("opset", f"{opsets}; IR version {facts.ir_version}"),
        ("producer", facts.producer or "not stated"),
        *(("input", _port(port)) for port in facts.inputs),
        *(("output", _port(port)) for port in facts.outputs),
        ("operators in the file", _counts(facts.operators)),
        *_runtime(facts),
    ]
    lines = [_row(name, value) for name, value in rows]
    if facts.metadata:
        lines += ["", "metadata", *(_row(f"  {key}", value) for key, value in facts.metadata.items())]
    return "\n".join([*lines, "", *_layers(facts, all_layers)])


def operators_text(facts: ModelFacts) -> str:
    """Every operator that ONNX Runtime will run, in its order, with what it computes on."""
    if facts.coverage is None:
        return facts.problem
    names = {"quantize": "float → integer", "dequantize": "integer → float", "neither": "shapes"}
    return "\n".join(
        f"{names.get(operator.precision, operator.precision):<16}  {printable(operator.op_type):<26}  "
        f"{printable(operator.name)}"
        for operator in facts.runs
    )


def tensor_text(facts: TensorFacts) -> str:
    """A few lines about one tensor."""
    shape = "unknown shape" if facts.shape is None else "x".join(map(str, facts.shape)) or "scalar"
    rows = [
        ("tensor", facts.name),
        ("holds", f"{facts.dtype or 'unknown type'}, {shape}{', constant' if facts.constant else ''}"),
        ("made by", facts.made_by or ("the file" if facts.constant else "the caller")),
        ("read by", ", ".join(facts.read_by) or "nobody"),
    ]
    quantities = facts.quantities
    if quantities is None:
        rows.append(("quantized", "no"))
    else:
        low, high = quantities.range
        axis = "" if quantities.axis is None else f", one for each channel (axis {quantities.axis})"
        rows += [
            ("quantized", f"{quantities.dtype}, told by {quantities.told_by}{axis}"),
            ("scale", _few(quantities.scale)),
            ("zero point", _few(quantities.zero_point)),
            ("range", f"{low:.6g} to {high:.6g}"),
        ]
    return "\n".join(_row(name, value) for name, value in rows)


def differences_text(found: Sequence[Difference]) -> str:
    """Two columns; one sentence if nothing differs."""
    if not found:
        return "the two files are the same, byte for byte"
    lines = []
    for difference in found:
        if difference.what.endswith(".different_values"):
            lines.append(f"{printable(difference.what)}: {difference.left}")
            continue
        left, right = (_value(value) for value in (difference.left, difference.right))
        lines.append(f"{printable(difference.what)}: {left} → {right}")
    return "\n".join(lines)


def _runtime(facts: ModelFacts) -> list[tuple[str, str]]:
    coverage = facts.coverage
    if coverage is None:
        return [("ONNX Runtime", facts.problem)]
    rows = [
        (
            "runs in integers",
            f"{coverage.integer_weighted} of {coverage.weighted} operators with weights; "
            f"{_counts(coverage.integer) or 'none'}",
        ),
        ("runs in floats", _counts(coverage.floating) or "none"),
        ("conversions", f"{coverage.quantize} to integers, {coverage.dequantize} back"),
    ]
    if coverage.integer_weighted and coverage.float_weighted_operators:
        rows.append(("weights in floats", ", ".join(coverage.float_weighted_operators)))
    return rows


def _layers(facts: ModelFacts, all_layers: bool) -> list[str]:
    shown = list(facts.layers)
    title = f"size by layer ({len(shown)} layers with constants)"
    if not all_layers and len(shown) > _LAYERS_SHOWN:
        shown = sorted(shown, key=lambda layer: -layer.size_bytes)[:_LAYERS_SHOWN]
        title = (
            f"the {_LAYERS_SHOWN} largest of {len(facts.layers)} layers with constants (--layers lists all)"
        )
    total = max(facts.constants_bytes, 1)
    lines = [title]
    for layer in shown:
        share = f"{100 * layer.size_bytes / total:5.1f} %"
        kind = printable(f"{layer.op_type}, {layer.dtype}")
        lines.append(f"  {layer.size_bytes:>12,} bytes  {share}  {kind:<24}  {printable(layer.name)}")
    return lines


def _port(port: Port) -> str:
    return f"{port.name}  {port.dtype}  {'x'.join(map(str, port.shape)) or 'scalar'}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _few(values: Sequence[float]) -> str:
    text = ", ".join(f"{value:.6g}" for value in values[:_SCALES_SHOWN])
    return text if len(values) <= _SCALES_SHOWN else f"{text}, … ({len(values)} in all)"


def _value(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return _few(value)
    text = printable(str(value))
    return text if len(text) <= _VALUE_COLUMNS else f"{text[: _VALUE_COLUMNS - 1]}…"


def _row(name: str, value: str) -> str:
    return f"{printable(name):<{_NAME_COLUMNS}} {printable(value)}"
