"""Images per second in batches, of several models side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from quantize.errors import InputError
from quantize.parallel import in_order
from quantize.session import input_shape, outputs

# What servers gather before they call a model; more images a call are hardly faster per image.
BATCH_SIZE = 32

# Of all timed calls together. MobileNetV2 in fp32 and two int8 formats takes half a second a round (2 cores,
# AVX512), so that two rounds fit; a large network gets one.
_BUDGET_S = 1.2
_MOST_ROUNDS = 5


@dataclass(frozen=True)
class Throughput:
    """Throughput of several models timed in turn in one run, on one thread each.

    Attributes:
        batch_size: images of each call.
        fixed_batch: the models take batches of this size only.
        rounds: timed calls per model.
        images_per_s: model -> `batch_size` over the median time of a call.
        ratios: model -> median over rounds of (first model's time / this model's time); 1 for the first.
    """

    batch_size: int
    fixed_batch: bool
    rounds: int
    images_per_s: Mapping[str, float]
    ratios: Mapping[str, float]


def interleaved_throughput(
    sessions: Mapping[str, ort.InferenceSession],
    image: npt.NDArray[np.float32],
    *,
    batch_size: int = BATCH_SIZE,
    budget_s: float = _BUDGET_S,
    workers: int = 1,
) -> Throughput:
    """Times calls with batches of one image repeated: what kernels take depends on no pixel.

    Every model is called once without the clock, because memory is allocated then; nothing is timed yet, so
    that these calls may go on side by side. Each round calls every model once, forth and back in turn.

    Args:
        sessions: models by name, of one thread each; the first is the one that others are compared with.
        image: [1, ...] float32.
        batch_size: images of each call, unless a model insists on another number.
        budget_s: time after which no further round is begun; there is always one.
        workers: calls side by side before the clock starts.

    Raises:
        InputError: there is no model, or the models insist on different batches, or the image does not fit.
        EngineError: a model failed.
    """
    fixed = {size for session in sessions.values() if (size := input_shape(session)[0]) is not None}
    if not sessions or len(fixed) > 1:
        raise InputError(f"throughput: {len(sessions)} models that take batches of {sorted(fixed) or 'any'}")
    fixed_batch = bool(fixed)
    size = fixed.pop() if fixed else batch_size
    batch = np.repeat(image[:1], size, axis=0)
    order = list(sessions)
    for _ in in_order(lambda name: outputs(sessions[name], batch, model=name), order, workers=workers):
        pass
    times_s: dict[str, list[float]] = {name: [] for name in order}
    began_s = time.perf_counter()
    for number in range(_MOST_ROUNDS):
        for name in order if number % 2 == 0 else reversed(order):
            start_s = time.perf_counter()
            outputs(sessions[name], batch, model=name)
            times_s[name].append(time.perf_counter() - start_s)
        spent_s = time.perf_counter() - began_s
        if spent_s + spent_s / (number + 1) > budget_s:
            break
    counted = {name: np.asarray(found) for name, found in times_s.items()}
    first = counted[order[0]]
    return Throughput(
        batch_size=size,
        fixed_batch=fixed_batch,
        rounds=len(first),
        images_per_s={name: float(size / np.median(found)) for name, found in counted.items()},
        ratios={name: float(np.median(first / found)) for name, found in counted.items()},
    )
