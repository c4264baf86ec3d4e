"""Which charts a report has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantize.report import view
from quantize.report.charts import causes
from quantize.report.charts.outcome import Bar, IntervalRow, bars, declines

Json = Mapping[str, Any]


def figures(report: Json) -> dict[str, str]:
    """Name -> SVG; what was not measured has no chart.

    Args:
        report: as `build_report` makes it, its texts printable.
    """
    models = report["models"]
    made = {
        "size": bars(
            [
                Bar(name, one["size_bytes"] / 1e6, f"{one['size_bytes'] / 1e6:.2f} MB")
                for name, one in _files(models)
            ],
            "size",
            "Sizes of the files in MB",
        ),
        "latency": bars(
            [
                Bar(name, one["latency"]["median_ms"] or 0.0, f"{one['latency']['median_ms'] or 0.0:.2f} ms")
                for name, one in _files(models)
            ],
            "latency",
            "Median latencies in milliseconds",
        ),
    }
    rates = view.images_per_s(report)
    if rates:
        made["throughput"] = bars(
            [Bar(name, rates[name], f"{rates[name]:.0f} images/s") for name, _ in _files(models)],
            "throughput",
            f"Images per second, {view.throughput_conditions(report)}",
        )
    rows = _interval_rows(report)
    if rows:
        made["declines"] = declines(rows, report["criterion"]["tolerance_fraction"], view.unit_of(report))
    ranked = view.ranked_sensitivity(report)
    if ranked:
        made["sensitivity"] = causes.sensitivity(ranked)
    return made | _signal_figures(report.get("diagnosis"))


def _files(models: Json) -> list[tuple[str, Json]]:
    return [("fp32", models["fp32"]), *models["int8"].items()]


def _interval_rows(report: Json) -> list[IntervalRow]:
    """One row per metric and format; where both formats fare alike, one for both."""
    rows = []
    for metric, label in (("top1", "top-1"), ("top5", "top-5")):
        found = {
            name: (one["estimate"], one["low"], one["high"])
            for name, one in view.declines_of(report, metric).items()
        }
        judged = metric == report["criterion"]["metric"]
        for ends in dict.fromkeys(found.values()):
            if None in ends:
                continue
            names = [name for name, own in found.items() if own == ends]
            suffix = "" if len(names) == len(found) else f" {'/'.join(names)}"
            rows.append(IntervalRow(label + suffix, *ends, judged=judged))
    return rows


def _signal_figures(diagnosis: Json | None) -> dict[str, str]:
    if diagnosis is None or not diagnosis["signal"]["tensors"]:
        return {}
    signal = diagnosis["signal"]
    tensors = {one["tensor"]: one for one in signal["tensors"]}
    made = {
        "signal_wide": causes.signal_to_noise(signal["tensors"], wide=True),
        "signal_narrow": causes.signal_to_noise(signal["tensors"], wide=False),
    }
    for place, one in enumerate(signal["histograms"]):
        made[f"range{place}"] = causes.value_range(one, tensors[one["tensor"]], f"range{place}")
    return made
