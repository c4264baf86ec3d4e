"""What it cost and won, as pictures: declines with their intervals, and bars for size and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantize.report.charts.canvas import BAD, FP32, GRID, INK, INT8, SECOND, canvas, short

_WIDTH_PIXELS = 360
_ROW_PIXELS = 30

_COLOURS = {"fp32": FP32, "QOperator": INT8, "QDQ": SECOND}


@dataclass(frozen=True)
class IntervalRow:
    """One decline: fractions of images or of accuracy; positive is worse."""

    label: str
    estimate: float
    low: float
    high: float
    judged: bool
    """Whether the criterion is about this one."""


@dataclass(frozen=True)
class Bar:
    """One bar: the label on its left, its length, and what is written at its end."""

    label: str
    value: float
    text: str


def declines(
    rows: Sequence[IntervalRow], tolerance_fraction: float, unit: str, name: str = "declines"
) -> str:
    """Points with their 95 % intervals, next to the most that may be lost."""
    with canvas(_WIDTH_PIXELS, 78 + _ROW_PIXELS * len(rows)) as drawn:
        axes = drawn.figure.add_subplot()
        for position, row in enumerate(rows):
            colour = INT8 if row.judged else FP32
            (line,) = axes.plot([100 * row.low, 100 * row.high], [position] * 2, color=colour, linewidth=2.5)
            axes.plot([100 * row.estimate], [position], "o", color=colour, markersize=8)
            text = (
                f"{100 * row.estimate:.2f} {unit}, 95 % interval {100 * row.low:.2f} to {100 * row.high:.2f}"
            )
            drawn.tip(line, f"{row.label}: {text}")
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.axvline(100 * tolerance_fraction, color=BAD, linewidth=1.3, linestyle=(0, (4, 3)))
        axes.annotate(
            "tolerated",
            (100 * tolerance_fraction, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            color=BAD,
            fontsize=10,
        )
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"lost, {unit} (left of 0: gained)")
        return drawn.svg(name, "Declines of accuracy with their 95 % intervals and the tolerance")


def bars(rows: Sequence[Bar], name: str, description: str) -> str:
    """Horizontal bars from zero, fp32 in grey."""
    with canvas(_WIDTH_PIXELS, 14 + _ROW_PIXELS * len(rows)) as drawn:
        axes = drawn.figure.add_subplot()
        longest = max((row.value for row in rows), default=1.0) or 1.0
        for position, row in enumerate(rows):
            (patch,) = axes.barh([position], [row.value], height=0.62, color=_COLOURS.get(row.label, INT8))
            drawn.tip(patch, f"{row.label}: {row.text}")
            axes.annotate(
                row.text, (row.value, position), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(rows)), [short(row.label, 18) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        # Room for the number behind the longest bar.
        axes.set_xlim(0, 1.38 * longest)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.spines["left"].set_color(GRID)
        return drawn.svg(name, description)
