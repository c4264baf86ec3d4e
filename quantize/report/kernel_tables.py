"""Tables by operator kind: how many kernels run before and after, and how long they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from quantize.kernels import Coverage
from quantize.verify import FileFacts, Verification

_NONE = "-"


def kernel_counts(coverage: Coverage) -> dict[str, int]:
    """Operator kind as ONNX Runtime runs it -> kernels, conversions between number types included."""
    counts: dict[str, int] = {}
    found = (coverage.integer, coverage.floating)
    converting = {"QuantizeLinear": coverage.quantize, "DequantizeLinear": coverage.dequantize}
    for kind, count in [*(item for one in found for item in one.items()), *converting.items()]:
        if count:
            counts[kind] = counts.get(kind, 0) + count
    return counts


def kernel_table(verification: Verification) -> Table:
    """Kernels by operator kind, most frequent first."""
    columns = [kernel_counts(facts.coverage) for facts in _files(verification)]
    table = _empty("kernels, as ONNX Runtime runs them", verification)
    for kind in _by_size(columns):
        table.add_row(kind, *(str(column[kind]) if kind in column else _NONE for column in columns))
    table.add_section()
    table.add_row("all", *(str(sum(column.values())) for column in columns))
    return table


def profile_table(verification: Verification) -> Table:
    """Milliseconds of one call by operator kind, most expensive first."""
    columns = [facts.profile_ms or {} for facts in _files(verification)]
    table = _empty(f"ms of a call (batch {verification.latency_images}, 1 thread)", verification)
    for kind in _by_size(columns):
        table.add_row(kind, *(f"{column[kind]:.3f}" if kind in column else _NONE for column in columns))
    table.add_section()
    table.add_row("all", *(f"{sum(column.values()):.3f}" for column in columns))
    return table


def _files(verification: Verification) -> list[FileFacts]:
    return [verification.fp32, *(artefact.facts for artefact in verification.artefacts.values())]


def _empty(title: str, verification: Verification) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="", pad_edge=False)
    table.add_column("")
    for name in ("fp32", *verification.artefacts):
        table.add_column(name, justify="right")
    return table


def _by_size(columns: Sequence[Mapping[str, float]]) -> list[str]:
    """The kinds of all columns, the largest value first; by name where equal."""
    kinds = {kind for column in columns for kind in column}
    return sorted(kinds, key=lambda kind: (-max(column.get(kind, 0) for column in columns), kind))
