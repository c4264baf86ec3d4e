"""Pass: weights rounded so that the outputs of their operator change least (scale search, then GPTQ)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from quantize.refine.network import Draft, Network
from quantize.refine.observe import Observations
from quantize.refine.rounding import EIGHT_BITS, Grid, best_rounding, best_scales, gptq, nearest
from quantize.scales import ActivationScale
from quantize.weights import Parameters, least_scales, round_bias

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Item = TypeVar("Item")
Result = TypeVar("Result")

# What the largest weight of a row may become, as a fraction of the limit: down to 1/2 where pairs are bounded
# (a finer scale is worth little to a row whose large weights then give way), and beyond the limit for kernels
# of few weights, where saturating the largest one can pay. From DESIGN, "The refinement recipe", step 3.
_DENSE_LEVELS = np.array([127, 120, 112, 104, 96, 88, 80, 72, 64]) / 127
_FREE_LEVELS = np.array([1.0, 1.05, 1.1, 1.2, 1.35])

# Kernels of at most so many weights are rounded with each of many scales before one is chosen. With the few
# levels above, the squared error of MobileNetV2's depthwise outputs was 1.4 to 2.1 times as large.
_FEW_WEIGHTS = 32
_FINE_DENSE_LEVELS = np.arange(100, 49, -1) / 100
_FINE_FREE_LEVELS = np.concatenate([np.arange(200, 139, -1) / 200, [1.02, 1.05, 1.08, 1.1, 1.15, 1.2, 1.35]])

# Float32 holds every integer up to it.
_EXACT_LIMIT = 1 << 24

# Of 8-bit inputs, and of what is left of uint8 once its middle is taken away.
_LARGEST_STEP, _LARGEST_CENTRED_STEP = 255, 128

# Vectors of so many groups are looked at together: what stays in a processor's cache is faster.
_BLOCK_BYTES = 2 << 20

# Operator, grid, data scale and factors → its integers, so that a draft that differs in one operator only
# does not round all others again.
WeightCache = dict[tuple[object, ...], Parameters]


def rounded_weights(network: Network, draft: Draft) -> Draft:
    """Every weighted operator's fp32 weights and bias, rounded to the nearest; factors are multiplied in.

    Where products saturate in pairs, weights have 7 bits, with which any two products fit.
    """
    parameters = {}
    for name in network.weighted:
        if name not in draft.operators:
            continue
        _, geometry = network.weighted[name]
        weights, bias = network.float_parameters(name, draft.factors)
        limit = network.target.weight_limit(depthwise=geometry.depthwise)
        largest = np.abs(weights).max(axis=2)
        scales = np.where(largest > 0, largest / limit, 1.0)
        scales = _fitting(network, draft, name, scales, bias)
        integers = nearest(weights, scales, Grid(limit))
        parameters[name] = _parameters(network, draft, name, integers=integers, scales=scales, bias=bias)
    return draft.but(parameters={**draft.parameters, **parameters})


def refine_weights(
    network: Network,
    draft: Draft,
    observations: Observations,
    *,
    threads: int,
    cache: WeightCache | None = None,
) -> Draft:
    """Rounds the weights of every integer operator anew.

    Args:
        network: the fp32 network.
        draft: with final scales and factors of the activations.
        observations: of the fp32 network.
        threads: operators under way at once; the result does not depend on it.
        cache: integers made before, of the same network and observations; added to.

    Returns:
        The draft with integers for every weighted operator; biases are those of fp32, rounded.
    """
    known = {} if cache is None else cache
    names = [name for name in network.weighted if name in draft.operators]
    keys = {name: _key(network, draft, name) for name in names}
    # The longest first, so that no thread begins it when the others are about to have nothing left to do.
    missing = sorted((n for n in names if keys[n] not in known), key=lambda n: -_effort(network, n))

    def refined(name: str) -> Parameters:
        return _refined(network, draft, observations, name)

    for name, made in zip(missing, in_order(refined, missing, threads), strict=True):
        known[keys[name]] = made
    return draft.but(parameters={**draft.parameters, **{name: known[keys[name]] for name in names}})


def _effort(network: Network, name: str) -> int:
    """What rounding takes, in multiplications: the inverses of the Hessians, and passing errors on."""
    _, geometry = network.weighted[name]
    return geometry.depth**2 * (geometry.groups * geometry.depth + geometry.outputs)


def _key(network: Network, draft: Draft, name: str) -> tuple[object, ...]:
    operator, _ = network.weighted[name]
    read, made = draft.factors.get(operator.inputs[0]), draft.factors.get(operator.output)
    factors = tuple(None if one is None else one.tobytes() for one in (read, made))
    return (name, draft.scales[operator.inputs[0]], draft.operators[name], *factors)


def in_order(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Maps `work` over items with threads; each item's linear algebra is done by one thread.

    A product that a library shares out among threads may add up in another order.
    """
    with one_blas_thread(), ThreadPoolExecutor(max_workers=threads) as pool:
        results: Iterable[Result] = pool.map(work, items)
        return list(results)


def one_blas_thread() -> AbstractContextManager[object]:
    """While it lasts, linear algebra does not share out its work.

    The limit is the process's, and ends with whatever the limit was before: who does several things at once
    that need it has to hold it around all of them.
    """
    # Limits reach the libraries that are loaded; scipy brings a BLAS of its own.
    import scipy.linalg  # noqa: F401

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


def _refined(network: Network, draft: Draft, observations: Observations, name: str) -> Parameters:
    operator, geometry = network.weighted[name]
    grid = network.grid(geometry)
    weights, bias = network.float_parameters(name, draft.factors)
    data_scale = draft.scales[operator.inputs[0]]
    factors = draft.factors.get(operator.inputs[0])
    vectors = observations.vectors[name]
    spread = None
    if factors is not None:
        spread = geometry.spread_inputs(factors).reshape(geometry.groups, geometry.depth)
    hessian = _hessian_of(vectors, spread, data_scale)
    per_channel = draft.operators[name]
    if per_channel and geometry.depth <= _FEW_WEIGHTS:
        scales, integers = best_rounding(weights, hessian, grid, _levels(grid, fine=True))
        fitting = _fitting(network, draft, name, scales, bias)
        if np.array_equal(fitting, scales):
            return _parameters(network, draft, name, integers=integers, scales=scales, bias=bias)
    root = _root_of(vectors, spread, data_scale) if 2 * len(vectors) <= geometry.depth else None
    scales = best_scales(weights, hessian, grid, _levels(grid), shared=not per_channel, root=root)
    scales = _fitting(network, draft, name, scales, bias)
    integers = gptq(weights, hessian, scales, grid)
    return _parameters(network, draft, name, integers=integers, scales=scales, bias=bias)


def _fitting(
    network: Network, draft: Draft, name: str, scales: npt.NDArray[Any], bias: Floats | None
) -> Floats:
    """Scales [groups, M], enlarged where an int32 bias would not fit; one for all if that is wanted."""
    operator, geometry = network.weighted[name]
    data_scale = draft.scales[operator.inputs[0]].scale
    fitting = np.maximum(scales, least_scales(bias, data_scale, geometry.outputs).reshape(scales.shape))
    if not draft.operators[name]:
        fitting = np.full_like(fitting, fitting.max())
    return fitting.astype(np.float32)


def _parameters(
    network: Network,
    draft: Draft,
    name: str,
    *,
    integers: npt.NDArray[np.int16],
    scales: Floats,
    bias: Floats | None,
) -> Parameters:
    """The integers as the operator has them."""
    operator, geometry = network.weighted[name]
    per_channel = draft.operators[name]
    scale = scales.reshape(-1) if per_channel else scales.reshape(-1)[0]
    axis = (0 if geometry.op_type == "Conv" or geometry.transposed else 1) if per_channel else None
    bias_scale = np.float32(draft.scales[operator.inputs[0]].scale) * np.asarray(scale, dtype=np.float32)
    return Parameters(
        weights=geometry.unpack(integers).astype(np.int8),
        scale=np.asarray(scale, dtype=np.float32),
        axis=axis,
        bias=None if bias is None else round_bias(bias, np.asarray(bias_scale)),
        bias_scale=np.asarray(bias_scale),
    )


def _levels(grid: Grid, *, fine: bool = False) -> npt.NDArray[np.float64]:
    if grid.paired:
        fractions = _FINE_DENSE_LEVELS if fine else _DENSE_LEVELS
    else:
        fractions = _FINE_FREE_LEVELS if fine else _FREE_LEVELS
        if grid.limit < EIGHT_BITS:  # pairs fit because of the limit; saturating more gains nothing
            fractions = fractions[fractions <= 1.0]
    return np.multiply(fractions, grid.limit, dtype=np.float64)


def _steps(vectors: Floats, scale: ActivationScale) -> Floats:
    """What the vectors are once they went through 8 bits, in units of the scale: integers of at most 255."""
    least, most = scale.integers
    steps: Floats = vectors / np.float32(scale.scale)
    np.rint(steps, out=steps)
    np.clip(steps, np.float32(least - scale.zero_point), np.float32(most - scale.zero_point), out=steps)
    return steps


def _hessian_of(vectors: Floats, spread: Floats | None, scale: ActivationScale) -> Doubles:
    """The Hessian [G, K, K] of vectors [n, G, K], times factors [G, K] if any, behind their rounding."""
    count, groups, depth = vectors.shape
    size = max(1, _BLOCK_BYTES // (4 * count * depth))
    # The middle of what uint8 can be, counted from the zero point.
    middle = 0 if scale.signed else _LARGEST_CENTRED_STEP - scale.zero_point
    found = []
    for start in range(0, groups, size):
        of = slice(start, start + size)
        steps = _steps(_times(vectors[:, of], None if spread is None else spread[of]), scale)
        found.append(_hessian(steps, scale.scale, middle=middle, reach=_LARGEST_CENTRED_STEP))
    return np.concatenate(found)


def _root_of(vectors: Floats, spread: Floats | None, scale: ActivationScale) -> Doubles:
    """R [G, n, K] with `RᵀR` the Hessian: smaller where there are few vectors."""
    steps = _steps(_times(vectors, spread), scale).transpose(1, 0, 2)
    root: Doubles = steps.astype(np.float64) * (scale.scale / np.sqrt(len(vectors)))
    return root


def _times(vectors: Floats, spread: Floats | None) -> Floats:
    return vectors if spread is None else vectors * spread


def _hessian(steps: Floats, scale: float, *, middle: int = 0, reach: int = _LARGEST_STEP) -> Doubles:
    """AᵀA / n of each group, with A the steps times the scale: [n, G, K] → [G, K, K].

    Sums of products of integers, in pieces that float32 holds exactly: the same bits in whatever order a
    processor's BLAS adds them up, at the speed of float32. Smaller integers make larger pieces: with b = a -
    m, `Σ a_i a_j = Σ b_i b_j + m Σ b_i + m Σ b_j + n m²`, exact in float64.

    Args:
        steps: integers.
        scale: of them.
        middle: m.
        reach: the largest magnitude of a step less m.
    """
    by_group = np.ascontiguousarray(steps.transpose(1, 0, 2))
    groups, count, depth = by_group.shape
    total = np.zeros((groups, depth, depth))
    sums = np.zeros((groups, depth))
    size = _EXACT_LIMIT // reach**2
    for start in range(0, count, size):
        piece = by_group[:, start : start + size]
        if middle:
            piece = piece - np.float32(middle)
            # Less than reach² of them: exact as well. Row by row, because K may be small.
            sums += steps[start : start + size].sum(axis=0) - np.float32(middle * piece.shape[1])
        total += np.matmul(piece.transpose(0, 2, 1), piece)
    if middle:
        total += middle * (sums[:, :, None] + sums[:, None, :]) + float(count * middle**2)
    hessian: Doubles = total * (scale * scale / count)
    return hessian
