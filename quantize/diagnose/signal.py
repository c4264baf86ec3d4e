"""Signal-to-noise along an int8 network: how much of each activation is error, and how its range fits.

The int8 model runs as it is shipped, in integers; its 8-bit tensors are only read as well. Every image runs
through both models on its own, in single-threaded sessions, so that memory holds the activations of one image
for each thread, and no number depends on how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from quantize.diagnose.pairing import TensorPair
from quantize.parallel import in_order
from quantize.scales import UINT8_LEVELS, ActivationScale
from quantize.session import make_session
from quantize.session import run as run_session

Floats = npt.NDArray[np.float32]

# Tensor -> what each of its channels, the second axis, is multiplied by in the int8 model: equalization does
# so, and undoes it in the weights that read the tensor.
Factors = Mapping[str, Floats]

# Enough to see the shape of a distribution in a chart as wide as a phone.
_BIN_COUNT = 64

# The sums are over so many values of each tensor and image, evenly spaced: a sum over a hundred thousand
# squares (a few images) is known to about 1 %, which is 0.05 dB, and the largest tensors have a million.
_SAMPLED_VALUES = 1 << 14


@dataclass(frozen=True)
class TensorSignal:
    """One activation of the int8 network, compared with fp32.

    Attributes:
        pair: which one.
        sqnr_db: 10 log10(Σ x² / Σ (x̂ - x)²), all errors up to here included; infinite where there is none.
        own_sqnr_db: the same if only this tensor were rounded, from exact values.
        low, high: its extremes in fp32 on these images.
        saturated_fraction: share of its values that lie outside of what its 256 integers stand for.
    """

    pair: TensorPair
    sqnr_db: float
    own_sqnr_db: float
    low: float
    high: float
    saturated_fraction: float


@dataclass(frozen=True)
class ValueHistogram:
    """How often an fp32 tensor takes which values: bin i covers `low + (i, i + 1) · (high - low) / bins`."""

    tensor: str
    low: float
    high: float
    counts: tuple[int, ...]


class _Powers:
    """Running sums over the values of one tensor."""

    def __init__(self) -> None:
        self.signal = self.noise = self.own_noise = 0.0
        self.low, self.high = math.inf, -math.inf
        self.values = self.saturated = 0

    def add(self, exact: Floats, integers: npt.NDArray[np.uint8], scale: ActivationScale) -> None:
        self.low, self.high = min(self.low, float(exact.min())), max(self.high, float(exact.max()))
        # An odd stride does not fall into step with the width of an image.
        stride = max(exact.size // _SAMPLED_VALUES, 1) | 1
        x, q = exact.reshape(-1)[::stride].astype(np.float64), integers.reshape(-1)[::stride]
        steps = np.rint(x / scale.scale) + scale.zero_point
        own = (np.clip(steps, 0, UINT8_LEVELS) - scale.zero_point) * scale.scale - x
        error = (q.astype(np.float64) - scale.zero_point) * scale.scale - x
        # numpy's own sums, whose order is fixed; a BLAS product's depends on the CPU.
        self.signal += float(np.square(x).sum())
        self.noise += float(np.square(error).sum())
        self.own_noise += float(np.square(own).sum())
        self.saturated += int(np.count_nonzero((steps < 0) | (steps > UINT8_LEVELS)))
        self.values += x.size

    def merge(self, other: _Powers) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.signal += other.signal
        self.noise += other.noise
        self.own_noise += other.own_noise
        self.saturated += other.saturated
        self.values += other.values

    def signal_of(self, pair: TensorPair) -> TensorSignal:
        return TensorSignal(
            pair=pair,
            sqnr_db=decibel(self.signal, self.noise),
            own_sqnr_db=decibel(self.signal, self.own_noise),
            low=self.low,
            high=self.high,
            saturated_fraction=self.saturated / self.values,
        )


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite without noise, NaN without either."""
    if noise == 0.0:
        return math.inf if signal > 0.0 else math.nan
    # The logarithms of both, because their ratio may under- or overflow.
    return 10.0 * (math.log10(signal) - math.log10(noise)) if signal > 0.0 else -math.inf


def measure_signal(
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    pairs: Sequence[TensorPair],
    images: Sequence[Floats],
    *,
    factors: Factors,
    threads: int,
) -> list[TensorSignal]:
    """Compares the activations of both models.

    Args:
        fp32: the prepared model.
        int8: what was made of it, in either format; QOperator runs exactly the integers that are shipped.
        pairs: which tensors, as `pair_tensors` found them.
        images: [1, ...] float32 each (or a whole batch, where the models insist on one).
        factors: of the tensors that were equalized, whose values are compared with multiplied ones.
        threads: images under way at once.

    Returns:
        One entry per pair, in that order.

    Raises:
        EngineError: ONNX Runtime refused or failed.
    """
    if not pairs:
        return []
    real = _Watched(fp32, [pair.tensor for pair in pairs], onnx.TensorProto.FLOAT)
    rounded = _Watched(int8, [pair.quantized for pair in pairs], onnx.TensorProto.UINT8)

    def look(image: Floats) -> list[_Powers]:
        found = [_Powers() for _ in pairs]
        for sums, pair, x, q in zip(found, pairs, real(image), rounded(image), strict=True):
            sums.add(_scaled(x, factors.get(pair.tensor)), q, pair.scale)
        return found

    powers = [_Powers() for _ in pairs]
    for found in in_order(look, images, workers=threads):
        for total, sums in zip(powers, found, strict=True):
            total.merge(sums)
    return [sums.signal_of(pair) for sums, pair in zip(powers, pairs, strict=True)]


def collect_histograms(
    fp32: onnx.ModelProto,
    signals: Sequence[TensorSignal],
    images: Sequence[Floats],
    *,
    factors: Factors,
    threads: int,
) -> list[ValueHistogram]:
    """The distributions of a few fp32 tensors between the extremes that `measure_signal` found.

    Args:
        fp32: the prepared model.
        signals: which tensors.
        images: those that the extremes are of.
        factors: as for `measure_signal`.
        threads: images under way at once.

    Raises:
        EngineError: ONNX Runtime refused or failed.
    """
    if not signals:
        return []
    watched = _Watched(fp32, [one.pair.tensor for one in signals], onnx.TensorProto.FLOAT)

    def look(image: Floats) -> list[npt.NDArray[np.int64]]:
        return [
            _binned(_scaled(values, factors.get(one.pair.tensor)), one.low, one.high)
            for one, values in zip(signals, watched(image), strict=True)
        ]

    totals = [np.zeros(_BIN_COUNT, np.int64) for _ in signals]
    for found in in_order(look, images, workers=threads):
        for total, counts in zip(totals, found, strict=True):
            np.add(total, counts, out=total)
    return [
        ValueHistogram(one.pair.tensor, one.low, one.high, tuple(map(int, total)))
        for one, total in zip(signals, totals, strict=True)
    ]


def _scaled(values: Floats, factors: Floats | None) -> Floats:
    """Values [N, C, ...], each channel multiplied by its factor."""
    if factors is None:
        return values
    return values * factors.reshape(-1, *[1] * (values.ndim - 2))


def _binned(values: Floats, low: float, high: float) -> npt.NDArray[np.int64]:
    if not high > low:
        return np.bincount([0], weights=[values.size], minlength=_BIN_COUNT).astype(np.int64)
    position = (values.reshape(-1) - np.float32(low)) * np.float32(_BIN_COUNT / (high - low))
    bins = np.clip(position, 0, _BIN_COUNT - 1).astype(np.int64)
    return np.bincount(bins, minlength=_BIN_COUNT)


class _Watched:
    """A model with some of its tensors as further outputs; image -> their values, in the order asked for."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], kind: int) -> None:
        augmented = onnx.ModelProto()
        augmented.CopyFrom(model)
        graph = augmented.graph
        self._input = graph.input[0].name
        self._tensors = list(tensors)
        present = {value.name for value in [*graph.output, *graph.input]}
        for name in dict.fromkeys(tensors):
            if name not in present:
                graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
        self._names = [name for name in dict.fromkeys(tensors) if name != self._input]
        self._session = make_session(augmented, threads=1)

    def __call__(self, image: Floats) -> list[npt.NDArray[Any]]:
        found = run_session(self._session, self._names, {self._input: image}) if self._names else []
        values: Mapping[str, npt.NDArray[Any]] = {
            self._input: image,
            **dict(zip(self._names, found, strict=True)),
        }
        return [values[name] for name in self._tensors]
