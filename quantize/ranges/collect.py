"""Collects statistics of activations in memory that does not grow with the size of the activations.

One pass over the calibration images gives each tensor's extremes image by image; a second, only where a rule
asks for it, fills histograms whose bounds are then known, so that no bin ever has to be re-made.

Every image runs alone through a single-threaded session; several such runs go side by side. The float32 sums
inside an operator are therefore added in the same order whatever the number of threads.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx

from quantize.errors import EngineError
from quantize.nonfinite import explained, naming_of
from quantize.session import make_session
from quantize.session import run as run_session

Array = np.ndarray[Any, np.dtype[np.float32]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Batches = Iterable[tuple[Array, Any]]
Result = TypeVar("Result")

# 2,048 bins resolve 1/8 of a uint8 step over the full range; Migacz (2017) uses the same number.
BIN_COUNT = 2048

# Images whose extremes are kept by channel: medians of them are wanted, and memory must not grow with images.
CHANNEL_IMAGES = 128

# Below it, bins per unit do not fit float32, and nothing is lost by calling the tensor zero.
_LEAST_SPAN = BIN_COUNT / float(np.finfo(np.float32).max)

# Values in work stay in the cache of a processor.
_COUNTED_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest value of each tensor, image by image.

    Attributes:
        lows, highs: tensor name -> float32 [images], in the order of the images.
        channel_lows, channel_highs: the same by channel, float32 [images, channels], of the first images and
            of tensors for which it was asked.
    """

    lows: Mapping[str, Array]
    highs: Mapping[str, Array]
    channel_lows: Mapping[str, Array] = field(default_factory=dict)
    channel_highs: Mapping[str, Array] = field(default_factory=dict)

    def bounds(self, tensor: str) -> tuple[float, float]:
        """The extremes over all images, widened to include zero."""
        return min(float(self.lows[tensor].min()), 0.0), max(float(self.highs[tensor].max()), 0.0)


@dataclass(frozen=True)
class Histograms:
    """How often each tensor takes which values.

    Attributes:
        counts: tensor name -> int64 [BIN_COUNT]; bin i covers `low + (i, i + 1) · (high - low) / BIN_COUNT`,
            with the bounds of `Extremes.bounds`.
    """

    counts: Mapping[str, Counts]


def collect_extremes(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Batches,
    *,
    threads: int,
    by_channel: Sequence[str] = (),
) -> Extremes:
    """Runs the calibration images once.

    The network's own output is looked at as well: a NaN behind the last of the tensors shows there.

    Args:
        model: a prepared fp32 model with one input.
        tensors: names of float32 tensors of its graph, inputs included.
        batches: (float32 [N, ...], anything) pairs.
        threads: images under way at once.
        by_channel: those of `tensors` whose extremes are kept by channel too, for `CHANNEL_IMAGES` images;
            channels are axis 1.

    Raises:
        InputError: a tensor is not finite; the message names the first operator that makes it so, and the
            image.
        EngineError: no image came.
    """
    if not tensors:
        return Extremes({}, {})
    naming, outputs = naming_of(batches), [value.name for value in model.graph.output]

    def extremes(values: Mapping[str, Array], number: int) -> _Seen:
        found = [(float(values[name].min()), float(values[name].max())) for name in tensors]
        bad = [name for name, pair in zip(tensors, found, strict=True) if not np.all(np.isfinite(pair))]
        # Minus infinity is a probability of zero.
        bad += [name for name in outputs if not np.all(values[name] < np.inf)]
        if bad:
            image = values[model.graph.input[0].name]
            raise explained(
                model,
                image,
                model="fp32 model",
                image_name=naming(number),
                suspects=tuple(dict.fromkeys(bad)),
            )
        channels = by_channel if number < CHANNEL_IMAGES else ()
        return found, [_channel_extremes(values[name][0]) for name in channels]

    seen = list(each_image(model, tensors, batches, extremes, threads))
    if not seen:
        raise EngineError("no calibration image reached the engine")
    table = np.array([one for one, _ in seen], dtype=np.float32)
    by_image = [channels for _, channels in seen[:CHANNEL_IMAGES]]
    ends = {name: np.stack([one[i] for one in by_image], axis=1) for i, name in enumerate(by_channel)}
    return Extremes(
        lows={name: table[:, position, 0] for position, name in enumerate(tensors)},
        highs={name: table[:, position, 1] for position, name in enumerate(tensors)},
        channel_lows={name: pair[0] for name, pair in ends.items()},
        channel_highs={name: pair[1] for name, pair in ends.items()},
    )


# Extremes of each tensor of one image, and the extremes by channel, [2, channels], of some.
_Seen = tuple[list[tuple[float, float]], list[Array]]


def _channel_extremes(values: Array) -> Array:
    """[channels, ...] → lows and highs, [2, channels]."""
    flat = values.reshape(values.shape[0], -1)
    return np.stack([flat.min(axis=1), flat.max(axis=1)])


def collect_histograms(
    model: onnx.ModelProto, extremes: Extremes, batches: Batches, *, threads: int
) -> Histograms:
    """Runs the calibration images once more, within the bounds that the first pass found."""
    tensors = list(extremes.lows)
    if not tensors:
        return Histograms({})

    def histogram(values: Mapping[str, Array], _: int) -> list[Counts]:
        return [_count(values[name], *extremes.bounds(name)) for name in tensors]

    totals = {name: np.zeros(BIN_COUNT, dtype=np.int64) for name in tensors}
    for counts in each_image(model, tensors, batches, histogram, threads):
        for name, one in zip(tensors, counts, strict=True):
            totals[name] += one
    return Histograms(totals)


def _count(values: Array, low: float, high: float) -> Counts:
    """Counts per bin, [BIN_COUNT]; values outside count as the nearest end.

    A binning by multiplication is some ten times faster than `numpy.histogram`.
    """
    if high - low < _LEAST_SPAN:
        return np.bincount([0], weights=[values.size], minlength=BIN_COUNT).astype(np.int64)
    flat = values.reshape(-1)
    # One bin more: the largest value lies on the upper edge of the last one.
    counts = np.zeros(BIN_COUNT + 1, dtype=np.int64)
    for start in range(0, flat.size, _COUNTED_AT_ONCE):
        part = flat[start : start + _COUNTED_AT_ONCE]
        position = part - np.float32(low)
        position *= np.float32(BIN_COUNT / (high - low))
        bins = position.astype(np.intp)
        if part.min() < low or part.max() > high:  # clipping everything would take a third longer
            np.clip(bins, 0, BIN_COUNT, out=bins)
        counts += np.bincount(bins, minlength=BIN_COUNT + 1)
    counts[BIN_COUNT - 1] += counts[BIN_COUNT]
    return counts[:BIN_COUNT]


def each_image(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Batches,
    reduce: Callable[[Mapping[str, Array], int], Result],
    threads: int,
) -> Iterator[Result]:
    """Yields `reduce` of every image's activations, in order; those of a few images exist at once.

    Args:
        model: a prepared fp32 model with one input.
        tensors: names of tensors of its graph, inputs included.
        batches: (float32 [N, ...], anything) pairs.
        reduce: makes something small of tensor name -> values (of one image, or of as many copies of it as
            the model's batch has) and the number of the image.
        threads: images under way at once.
    """
    augmented, input_name = _with_outputs(model, tensors)
    session = make_session(augmented, threads=1)
    names = [value.name for value in session.get_outputs()]

    def run(image: Array, number: int) -> Result:
        values = dict(
            zip(names, run_session(session, names, {input_name: image}, model="fp32 model"), strict=True)
        )
        return reduce({**values, input_name: image}, number)

    under_way: deque[Future[Result]] = deque()
    numbers = itertools.count()
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="calibrate") as pool:
        for image in each_alone(batches, model):
            under_way.append(pool.submit(run, image, next(numbers)))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def each_alone(batches: Batches, model: onnx.ModelProto) -> Iterator[Array]:
    """Single images as the model takes them: a model of fixed batch size gets the same image that often."""
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    repeat = max(dim.dim_value, 1)
    for images, _ in batches:
        for position in range(len(images)):
            yield np.repeat(images[position : position + 1], repeat, axis=0)


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> tuple[onnx.ModelProto, str]:
    """The model with `tensors` as further outputs, and the name of its input."""
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    graph = augmented.graph
    present = {value.name for value in [*graph.output, *graph.input]}
    for name in tensors:
        if name not in present:
            graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return augmented, graph.input[0].name
