"""Rules that choose a range [low, high] for each activation tensor, and the scale that spans it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantize.errors import EngineError
from quantize.portable_math import log
from quantize.ranges.collect import BIN_COUNT, Counts, Extremes, Histograms
from quantize.scales import ActivationScale, activation_scale, steady

Bounds = tuple[float, float]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
MakeScale = Callable[[float, float], ActivationScale]
# Histogram, its bounds, and what makes a scale of the bounds that are tried -> the bounds to use.
HistogramRule = Callable[[Counts, Bounds, MakeScale], Bounds]

# Which quantile of the images' own extremes the range spans. 0.65 and the median tie on MobileNetV2 (KL 0.012
# against 0.052 for absolute extremes): a minority of images with massive activations does not count. Where
# all images fill their range, 0.9 is better (DESIGN, "What carries over to other networks").
_EXTREME_QUANTILES = {"quantile": 0.65, "median": 0.5, "quantile90": 0.9}

# Values outside the central 99.99 % saturate; the percentile that the engine's own calibrator defaults to.
_PERCENTILE_FRACTION = 0.9999

# Fractions of the full range that the searches try: from all of it down to 30 % in steps of 2 %.
_SHRINKAGES: FloatArray = np.arange(1.0, 0.29, -0.02)


def _percentile(counts: Counts, bounds: Bounds, _: MakeScale) -> Bounds:
    """Cuts the same fraction of values off both ends; where none was counted, there is nothing to cut."""
    if not counts.any():
        return bounds
    tail = counts.sum() * (1.0 - _PERCENTILE_FRACTION) / 2
    cumulated = np.cumsum(counts)
    first = int(np.searchsorted(cumulated, tail, side="right"))
    last = int(np.searchsorted(cumulated, counts.sum() - tail, side="left"))
    edges = np.linspace(*bounds, BIN_COUNT + 1)
    return float(edges[first]), float(edges[min(last + 1, BIN_COUNT)])


def _mse(counts: Counts, bounds: Bounds, make: MakeScale) -> Bounds:
    """Least mean squared error of rounding and saturation, searching each end in turn (two sweeps).

    The second sweep is left out where the first one has not moved the low end: it would find the same.
    """
    centres = _centres(bounds)

    def sweep(low: float) -> Bounds:
        high = min(_shrunk(bounds[1]), key=lambda end: _squared_error(counts, centres, make(low, end)))
        if bounds[0] == 0.0:  # after a ReLU there is nothing to search
            return bounds[0], high
        low = min(_shrunk(bounds[0]), key=lambda end: _squared_error(counts, centres, make(end, high)))
        return low, high

    found = sweep(bounds[0])
    return found if found[0] == bounds[0] else sweep(found[0])


def _kl(counts: Counts, bounds: Bounds, make: MakeScale) -> Bounds:
    """Least KL divergence between the histogram and its 256-level image, both ends shrunk alike.

    After Migacz, "8-bit inference with TensorRT", GTC 2017: values outside the range are folded into its
    outermost bins, so that saturation counts as a change of the distribution. The bin of zero is left out, as
    it is there: after a ReLU it holds most values, all of them exact whatever the range.
    """
    centres = _centres(bounds)
    counts = counts.copy()
    counts[int(np.argmin(np.abs(centres)))] = 0
    candidates = zip(_shrunk(bounds[0]), _shrunk(bounds[1]), strict=True)
    return min(candidates, key=lambda ends: _divergence(counts, centres, ends, make))


EXTREME_RULES = ("quantile", "minmax", "median", "mean", "quantile90")
_HISTOGRAM_RULES: Mapping[str, HistogramRule] = {"mse": _mse, "percentile": _percentile, "kl": _kl}
HISTOGRAM_RULES = tuple(_HISTOGRAM_RULES)
RULES = (*EXTREME_RULES, *HISTOGRAM_RULES)


@dataclass
class RangeTable:
    """The scales of all tensors under every rule; histograms are collected when a rule first needs them.

    Attributes:
        extremes: the statistics of the first pass.
        make_histograms: runs the second pass.
        make_scale: what kind of scale the deployment takes.
        scores: tensors whose largest values decide the class, so that none may saturate: always minmax.
    """

    extremes: Extremes
    make_histograms: Callable[[], Histograms]
    make_scale: MakeScale = activation_scale
    scores: frozenset[str] = frozenset()
    _histograms: Histograms | None = None
    _scales: dict[tuple[str, str], ActivationScale] = field(default_factory=dict)

    def scale(self, tensor: str, rule: str) -> ActivationScale:
        """The scale of one tensor under one rule.

        Raises:
            EngineError: nobody measured the tensor, or there is no such rule.
        """
        if tensor not in self.extremes.lows:
            raise EngineError(f"no range was measured for tensor {tensor!r}")
        key = (tensor, rule)
        if key not in self._scales:
            low, high = self._bounds(tensor, rule)
            self._scales[key] = self.make_scale(steady(low), steady(high))
        return self._scales[key]

    def _bounds(self, tensor: str, rule: str) -> Bounds:
        lows, highs = self.extremes.lows[tensor], self.extremes.highs[tensor]
        if rule == "minmax" or (rule in RULES and tensor in self.scores):
            return self.extremes.bounds(tensor)
        if rule in _EXTREME_QUANTILES or rule == "mean":
            low, high = float(lows.mean(dtype=np.float64)), float(highs.mean(dtype=np.float64))
            if rule in _EXTREME_QUANTILES:
                low = float(np.quantile(lows, 1.0 - _EXTREME_QUANTILES[rule]))
                high = float(np.quantile(highs, _EXTREME_QUANTILES[rule]))
            # A tensor that is zero for most images has no range of its own for them; the others decide.
            return (low, high) if low < 0.0 or high > 0.0 else self.extremes.bounds(tensor)
        if rule not in _HISTOGRAM_RULES:
            raise EngineError(f"there is no range rule {rule!r}; known are {', '.join(RULES)}")
        if self._histograms is None:
            self._histograms = self.make_histograms()
        counts, bounds = self._histograms.counts[tensor], self.extremes.bounds(tensor)
        return _HISTOGRAM_RULES[rule](counts, bounds, self.make_scale)


def _centres(bounds: Bounds) -> FloatArray:
    edges = np.linspace(*bounds, BIN_COUNT + 1)
    return (edges[:-1] + edges[1:]) / 2


def _shrunk(end: float) -> list[float]:
    """What the searches try for one end of the range, the widest first, so that it wins a tie."""
    return [end * float(fraction) for fraction in _SHRINKAGES]


def _squared_error(counts: Counts, centres: FloatArray, entry: ActivationScale) -> float:
    return float((counts * np.square(centres - entry.rounded(centres))).sum())


def _divergence(counts: Counts, centres: FloatArray, ends: Bounds, make: MakeScale) -> float:
    low, high = ends
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return np.inf
    kept = counts[inside].astype(np.float64)
    reference = kept.copy()
    reference[0] += counts[centres < low].sum()
    reference[-1] += counts[centres > high].sum()
    # Rounding keeps the order of the centres, so that equal values are neighbours.
    levels = make(low, high).rounded(centres[inside])
    group = np.concatenate([[0], np.cumsum(levels[1:] != levels[:-1])])
    occupied = kept > 0
    share = np.bincount(group, weights=kept) / np.maximum(np.bincount(group, weights=occupied), 1)
    candidate = np.where(occupied, share[group], 0.0)
    if not candidate.sum() or not reference.sum():
        return np.inf
    p, q = reference / reference.sum(), candidate / candidate.sum()
    # A bin that only folded values fill has no image; the floor makes it count without being infinite.
    return float(np.sum(p[p > 0] * log(p[p > 0] / np.maximum(q[p > 0], 1e-12))))
