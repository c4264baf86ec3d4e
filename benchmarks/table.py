"""Results as plain text: columns as wide as what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

_BYTES_PER_MB = 1e6


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a header; the first column to the left, all others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([shown[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *shown[1:]])


def middle_and_range(values: Sequence[float], digits: int = 1) -> str:
    """`median (least-most)`; the median alone if there is one value."""
    text = f"{median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def megabytes(size_bytes: float, digits: int = 0) -> str:
    """In MB of 10**6 bytes."""
    return f"{size_bytes / _BYTES_PER_MB:.{digits}f}"
