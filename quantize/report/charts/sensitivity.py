"""The chart of the command `sensitivity`: what an operator costs alone, and what its return to fp32 saves."""

from __future__ import annotations

from quantize.diagnose.record import Record
from quantize.report.charts.canvas import INK, INT8, SECOND, canvas, short

_WIDTH_PIXELS = 760
_ROW_PIXELS = 17
_NAME_CHARACTERS = 30

# A taller picture is no picture any more; the record has all.
_ROWS = 60


def sensitivity_chart(record: Record) -> str:
    """Two columns of bars over the same ranked operators."""
    shown, saved = record.operators[:_ROWS], record.saved_nats()
    with canvas(_WIDTH_PIXELS, 60 + _ROW_PIXELS * len(shown)) as drawn:
        left, right = drawn.figure.subplots(1, 2, sharey=True)
        columns = (
            (left, "KL divergence that its return to fp32 saves", INT8, [saved[one.name] for one in shown]),
            (right, "KL divergence of it alone in int8", SECOND, [one.alone.kl_nats for one in shown]),
        )
        for axes, label, colour, values in columns:
            for position, (one, value) in enumerate(zip(shown, values, strict=True)):
                (patch,) = axes.barh([position], [value], height=0.7, color=colour)
                drawn.tip(patch, f"{one.name} ({one.op_type}): {value:.6f} nats")
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.set_xlabel(f"{label}, nats")
            axes.grid(visible=False, axis="y")
            axes.locator_params(axis="x", nbins=5)
        left.set_yticks(range(len(shown)), [short(one.name, _NAME_CHARACTERS) for one in shown])
        left.set_ylim(len(shown) - 0.4, -0.6)
        return drawn.svg("sensitivity", "What each operator costs alone, and what leaving it in fp32 saves")
