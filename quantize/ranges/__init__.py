"""Measures what values the activation tensors of a network take, and chooses quantization ranges by them."""

from quantize.ranges.collect import Extremes, Histograms, collect_extremes, collect_histograms
from quantize.ranges.rules import EXTREME_RULES, HISTOGRAM_RULES, RULES, RangeTable
from quantize.scales import activation_scale

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
