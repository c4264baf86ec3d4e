"""Where the error comes from, as pictures: sensitivity, signal-to-noise along the network, and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quantize.report.charts.canvas import BAD, FP32, GOOD, INK, INT8, MUTED, canvas, short

_NARROW_PIXELS, _WIDE_PIXELS = 360, 860
_ROW_PIXELS = 17

# Three side by side on a large screen, one on a phone.
_RANGE_PIXELS = 270, 140

# More rows than this are a table; what is not shown costs less than what is.
SENSITIVITY_ROWS = 20

_NAME_CHARACTERS = 20


def sensitivity(saved_nats: Sequence[tuple[str, float]], name: str = "sensitivity") -> str:
    """What leaving each operator in fp32 saves, as bars; the first of a ranked list of (operator, nats)."""
    shown = saved_nats[:SENSITIVITY_ROWS]
    with canvas(_NARROW_PIXELS, 56 + _ROW_PIXELS * len(shown)) as drawn:
        axes = drawn.figure.add_subplot()
        for position, (operator, nats) in enumerate(shown):
            (patch,) = axes.barh([position], [nats], height=0.7, color=INT8 if nats > 0 else FP32)
            drawn.tip(patch, f"{operator}: {nats:.5f} nats")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [short(operator, _NAME_CHARACTERS) for operator, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("KL divergence saved by leaving it in fp32, nats")
        return drawn.svg(name, "Divergence that leaving each operator in fp32 saves, most harmful first")


def signal_to_noise(tensors: Sequence[Mapping[str, Any]], *, wide: bool) -> str:
    """Two lines along the network: all errors up to here, and this tensor's own rounding.

    Args:
        tensors: entries of `diagnosis.signal.tensors` of the report.
        wide: for a large screen; else for a phone.
    """
    with canvas(_WIDE_PIXELS if wide else _NARROW_PIXELS, 300) as drawn:
        axes = drawn.figure.add_subplot()
        places = range(len(tensors))
        for key, colour, label in (
            ("own_sqnr_db", FP32, "its own rounding alone"),
            ("sqnr_db", INT8, "all errors up to here"),
        ):
            values = [float("nan") if one[key] is None else one[key] for one in tensors]
            axes.plot(places, values, color=colour, linewidth=1.6, label=label)
            known = [place for place in places if math.isfinite(values[place])]
            (points,) = axes.plot(
                known, [values[place] for place in known], "o", color=colour, markersize=3.6
            )
            drawn.tips(
                points, [f"{_called(tensors[place])}: {values[place]:.1f} dB, {label}" for place in known]
            )
        axes.set_xlabel("quantized activations, from the input to the scores")
        axes.set_ylabel("signal to noise, dB")
        axes.set_xlim(-1, len(tensors))
        axes.set_xticks([])
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        drawn.figure.legend(loc="outside upper left", ncols=2)
        name = "signalwide" if wide else "signalnarrow"
        return drawn.svg(name, "Signal to noise of the quantized activations along the network, in decibels")


def value_range(histogram: Mapping[str, Any], tensor: Mapping[str, Any], name: str) -> str:
    """A small distribution with the range that the integers cover; outside of it values saturate.

    Args:
        histogram: entry of `diagnosis.signal.histograms` of the report.
        tensor: the entry of `diagnosis.signal.tensors` with the same name.
        name: of the chart, unique in the page.
    """
    counts, low, high = histogram["counts"], histogram["low"], histogram["high"]
    step = (high - low) / len(counts) or 1.0
    edges = [low + position * step for position in range(len(counts) + 1)]
    called, outside = _called(tensor), tensor["saturated_fraction"]
    with canvas(*_RANGE_PIXELS) as drawn:
        axes = drawn.figure.add_subplot()
        axes.stairs([count or float("nan") for count in counts], edges, fill=True, color=MUTED, alpha=0.75)
        axes.set_yscale("log", nonpositive="clip")
        span = axes.axvspan(tensor["range_low"], tensor["range_high"], color=GOOD, alpha=0.16, linewidth=0)
        for end in (tensor["range_low"], tensor["range_high"]):
            axes.axvline(end, color=GOOD, linewidth=1.2)
        axes.set_title(short(called, _NAME_CHARACTERS), loc="left")
        # Beside the name: nothing is wide enough for words inside of the picture.
        axes.set_title(
            f"{100 * outside:.2f} % outside",
            loc="right",
            fontsize=9,
            color=BAD if outside > 0.001 else MUTED,
        )
        axes.locator_params(axis="x", nbins=4)
        axes.set_yticks([], minor=True)
        axes.set_yticks([])
        axes.grid(visible=False)
        drawn.tip(
            span,
            f"{called}: integers cover {tensor['range_low']:.3g} to {tensor['range_high']:.3g}, "
            f"values run from {low:.3g} to {high:.3g}",
        )
        return drawn.svg(name, f"Distribution of {called} and the range its integers cover")


def _called(tensor: Mapping[str, Any]) -> str:
    """The operator that makes a tensor, which is what people know; the input has none."""
    return str(tensor["operator"] or f"input {tensor['tensor']}")
