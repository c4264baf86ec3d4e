"""A bar chart as SVG, written by hand: nothing needs to be installed to make or see it."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

_WIDTH, _LABEL_WIDTH, _BAR_HEIGHT, _GAP, _TOP = 720, 220, 20, 8, 44
_VALUE_WIDTH = 110
_OURS, _OTHERS = "#2a6fb0", "#9aa5b1"


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """Horizontal bars in the given order, the largest as long as there is room for.

    Args:
        title: over the chart.
        values: label -> length, at least 0; labels that begin with "ours" get a colour of their own.
        unit: behind each value.
    """
    largest = max(values.values(), default=0.0) or 1.0
    room = _WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    height = _TOP + len(values) * (_BAR_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_GAP}" y="{_TOP - 20}" font-size="15">{escape(title)}</text>',
    ]
    for place, (label, value) in enumerate(values.items()):
        y = _TOP + place * (_BAR_HEIGHT + _GAP)
        length = room * value / largest
        colour = _OURS if label.startswith("ours") else _OTHERS
        baseline = y + _BAR_HEIGHT - 5
        parts += [
            f'<text x="{_LABEL_WIDTH - _GAP}" y="{baseline}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{_BAR_HEIGHT}" fill="{colour}"/>',
            f'<text x="{_LABEL_WIDTH + length + _GAP:.1f}" y="{baseline}">{value:.1f} {escape(unit)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
