"""One pass of the fp32 network over the calibration images, for everything that refinement needs to know.

What is kept per image is small (extremes and means by channel, scores); of the activations themselves only a
fixed number of sampled vectors is kept, however many images there are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from quantize.errors import EngineError
from quantize.operators import Operator
from quantize.ranges.collect import Batches, each_image
from quantize.refine.geometry import Geometry

Floats = npt.NDArray[np.float32]

# Vectors sampled of each operator's input. A Hessian of 5,000 positions rounds MobileNetV2 as well as one of
# all (DESIGN, "The refinement recipe").
_SAMPLE_COUNT = 5000

# All samples together; large networks get fewer vectors of each operator. MobileNetV2 needs 0.5 GB.
_SAMPLE_LIMIT_BYTES = 640 << 20

# What a depthwise convolution's 3 x 3 weights learn from: 9 numbers a channel need no more.
_DEPTHWISE_SAMPLE_COUNT = 1000


@dataclass(frozen=True)
class Observations:
    """What the fp32 network did on the calibration images.

    Attributes:
        scores: the network's output, [images, classes].
        lows, highs: tensor name -> extremes by channel, [images, channels]; tensors whose channels can be
            equalized only.
        means: operator name -> mean of what it makes before its activation, by channel, [images, channels].
        vectors: operator name -> sampled vectors that its weights multiply, [samples, groups, K].
    """

    scores: Floats
    lows: Mapping[str, Floats]
    highs: Mapping[str, Floats]
    means: Mapping[str, Floats]
    vectors: Mapping[str, Floats]


@dataclass(frozen=True)
class Watched:
    """What to look at.

    Attributes:
        operators: weighted operators, with their geometry.
        by_channel: tensors whose extremes by channel are wanted; channels are axis 1.
    """

    operators: Sequence[tuple[Operator, Geometry]]
    by_channel: Sequence[str]


@dataclass(frozen=True)
class _Seen:
    """What one image showed, in the order of `Watched`."""

    scores: Floats
    lows: list[Floats]
    highs: list[Floats]
    means: list[Floats]


class _Samples:
    """The vectors of all images, each written to its place by the thread that has it: they are large.

    Args:
        operators: how many there are.
        images: how many there are at most, of one size.
    """

    def __init__(self, operators: int, images: int) -> None:
        self._tables: list[Floats | None] = [None] * operators
        self._images, self._lock = images, threading.Lock()

    def put(self, position: int, number: int, vectors: Floats) -> None:
        """Keeps the vectors [samples, groups, K] that image `number` has for an operator."""
        with self._lock:
            table = self._tables[position]
            if table is None:
                table = np.empty((self._images, *vectors.shape), dtype=np.float32)
                self._tables[position] = table
        table[number] = vectors

    def of(self, position: int, images: int) -> Floats:
        """All that were kept for an operator, [samples, groups, K], of so many first images."""
        table = self._tables[position]
        assert table is not None  # every image puts some for every operator
        return table[:images].reshape(-1, *table.shape[2:])


def observe(
    model: onnx.ModelProto, watched: Watched, batches: Batches, *, images: int, threads: int, seed: int
) -> Observations:
    """Runs the images once.

    Args:
        model: a prepared fp32 model.
        watched: what to look at.
        batches: (float32 [N, ...], anything) pairs.
        images: how many images `batches` gives.
        threads: images under way at once; the result does not depend on it.
        seed: of the sampled positions.

    Raises:
        EngineError: no image came, or the model failed.
    """
    counts = _samples_per_image(watched, images)
    output = model.graph.output[0].name
    inputs = [operator.inputs[0] for operator, _ in watched.operators]
    raws = [operator.raw_output for operator, _ in watched.operators]
    tensors = list(dict.fromkeys([*inputs, *raws, *watched.by_channel, output]))

    samples = _Samples(len(watched.operators), images)

    def look(values: Mapping[str, Floats], number: int) -> _Seen:
        for position, (operator, geometry) in enumerate(watched.operators):
            data = values[operator.inputs[0]][0]
            random = np.random.default_rng((seed, number, position))
            available = geometry.positions(data.shape)
            wanted = counts[position]
            chosen = (
                np.arange(available)
                if available <= wanted
                else np.sort(random.integers(available, size=wanted))
            )
            samples.put(position, number, geometry.vectors(data, chosen))
        return _Seen(
            scores=values[output].reshape(values[output].shape[0], -1)[0].copy(),
            lows=[_by_channel(values[name][0]).min(axis=1) for name in watched.by_channel],
            highs=[_by_channel(values[name][0]).max(axis=1) for name in watched.by_channel],
            means=[channel_means(values[o.raw_output][0], o.op_type) for o, _ in watched.operators],
        )

    seen = list(each_image(model, tensors, batches, look, threads))
    if not seen:
        raise EngineError("no calibration image reached the refinement")
    names = [operator.name for operator, _ in watched.operators]
    return Observations(
        scores=np.stack([one.scores for one in seen]),
        lows={name: np.stack([one.lows[i] for one in seen]) for i, name in enumerate(watched.by_channel)},
        highs={name: np.stack([one.highs[i] for one in seen]) for i, name in enumerate(watched.by_channel)},
        means={name: np.stack([one.means[i] for one in seen]) for i, name in enumerate(names)},
        vectors={name: samples.of(i, len(seen)) for i, name in enumerate(names)},
    )


def channel_means(raw: Floats, op_type: str) -> Floats:
    """The mean over positions by channel: [C, ...] of a Conv, [..., C] of a product → [C] float32."""
    table = _by_channel(raw) if op_type == "Conv" else raw.reshape(-1, raw.shape[-1]).T
    means: Floats = table.mean(axis=1, dtype=np.float64).astype(np.float32)
    return means


def _by_channel(values: Floats) -> Floats:
    return values.reshape(values.shape[0], -1)


def _samples_per_image(watched: Watched, images: int) -> list[int]:
    """How many vectors of each operator one image gives."""
    totals = [
        _DEPTHWISE_SAMPLE_COUNT if geometry.depthwise else _SAMPLE_COUNT for _, geometry in watched.operators
    ]
    size_bytes = sum(
        4 * total * geometry.groups * geometry.depth
        for total, (_, geometry) in zip(totals, watched.operators, strict=True)
    )
    share = min(1.0, _SAMPLE_LIMIT_BYTES / max(size_bytes, 1))
    return [max(1, int(total * share) // max(images, 1)) for total in totals]
