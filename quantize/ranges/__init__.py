"""Measures what values the activation tensors of a network take, and chooses quantization ranges from that."""

from quantize.ranges.collect import Extremes, Histograms, collect_extremes, collect_histograms
from quantize.ranges.rules import EXTREME_RULES, HISTOGRAM_RULES, RULES, RangeTable, activation_scale

__all__ = [
    "EXTREME_RULES",
    "HISTOGRAM_RULES",
    "RULES",
    "Extremes",
    "Histograms",
    "RangeTable",
    "activation_scale",
    "collect_extremes",
    "collect_histograms",
]
