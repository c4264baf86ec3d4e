"""Rounds weight matrices to integers so that their outputs change least: scale search, GPTQ, pair bounds.

All functions take `weights [G, M, K]` (groups, output rows, inputs in packed order) and a Hessian `H [G, K,
K] = AᵀA / n` of the vectors that they multiply, so that the squared error of the outputs of a row is `eᵀ H e`
with `e` the error of its weights.

All arithmetic between the weights and the integers is in float64. Processors differ in the order in which
their BLAS adds products up: in float32 that moves a number by 1e-7 of itself, and of a million weights that
are about to be rounded some lie so near to a half; in float64 it is 1e-16, and none does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import EngineError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int16]

# Symmetric int8: -128 has no positive counterpart.
EIGHT_BITS = 127
SEVEN_BITS = 64

# Two uint8 products fit int16 when their weights of one sign sum up to no more: 255 · 128 = 32,640 <= 32,767.
PAIR_LIMIT = 128

# Added to the diagonal of the Hessian, as a fraction of its mean; GPTQ's own default.
_DAMPING = 0.01

# Columns whose errors are passed on together to all that are behind them (GPTQ, section 3.3).
_BLOCK = 128

# Columns that an error's cost is summed up over at a time: not so few that products of matrices become slow.
_COST_BLOCKS = 5
_LEAST_COST_BLOCK = 96

# Of the weights of a kernel with as many scales as are tried at once.
_TRIES_LIMIT_BYTES = 16 << 20

_ABSURD = (
    "the calibration images give an operator inputs that are not finite or of absurd size; "
    "check the transforms"
)


@dataclass(frozen=True)
class Grid:
    """What integers a weight may be.

    Attributes:
        limit: the largest magnitude.
        paired: whether neighbours (2i, 2i + 1) are bounded together, as `PAIR_LIMIT` says.
    """

    limit: int
    paired: bool = False


def best_scales(
    weights: Floats,
    hessian: Doubles,
    grid: Grid,
    levels: npt.NDArray[np.float64],
    *,
    shared: bool = False,
    root: Doubles | None = None,
) -> Floats:
    """The scale of each row with the least `eᵀ H e` after rounding to the nearest.

    Args:
        weights: [G, M, K].
        hessian: [G, K, K].
        grid: the integers.
        levels: what the largest weight of a row may become; more than `grid.limit` saturates it.
        shared: one scale for all rows.
        root: R [G, n, K] with `H = RᵀR`, where n is so small that `|R e|²` is faster.

    Returns:
        float32 [G, M]; 1 for a row of zeros.
    """
    largest = np.abs(weights).max(axis=2)
    if shared:
        largest = np.full_like(largest, largest.max())
    found = np.where(largest > 0, largest, 1.0).astype(np.float32)
    best = np.full(largest.shape, np.inf)
    # Where errors are too large for float32 to compare, the largest weight just fits.
    scales = (found / np.float32(levels[0])).astype(np.float32)
    for level in levels:
        scale = (found / np.float32(level)).astype(np.float32)
        error = weights - nearest(weights, scale, grid) * scale[:, :, None].astype(np.float64)
        cost = _cost(error, hessian, root)
        if shared:
            cost = np.full_like(cost, cost.sum(dtype=np.float64))
        better = cost < best
        best, scales = np.where(better, cost, best), np.where(better, scale, scales)
    scales = np.where(largest > 0, scales, np.float32(1.0)).astype(np.float32)
    return np.maximum(scales, np.finfo(np.float32).tiny)


def _cost(error: Doubles, hessian: Doubles, root: Doubles | None = None) -> Floats:
    """`eᵀ H e` of each row, [G, M]; to float32, so that equal errors stay equal whatever their last bits."""
    with np.errstate(over="ignore"):
        if root is None:
            cost = _quadratic_form(error, hessian)
        else:
            cost = np.square(error @ root.transpose(0, 2, 1)).sum(axis=2)
        single: Floats = cost.astype(np.float32)
    return single


def _quadratic_form(error: Doubles, hessian: Doubles) -> Doubles:
    """`eᵀ H e` of each row, [G, M]; H is symmetric, so that blocks beside its diagonal count twice."""
    cost = np.zeros(error.shape[:2])
    depth = error.shape[2]
    size = max(_LEAST_COST_BLOCK, -(-depth // _COST_BLOCKS))
    for start in range(0, depth, size):
        of, behind = slice(start, start + size), slice(start + size, depth)
        products = error[:, :, behind] @ hessian[:, behind, of]
        products *= 2.0
        products += error[:, :, of] @ hessian[:, of, of]
        products *= error[:, :, of]
        cost += products.sum(axis=2)
    return cost


def nearest(weights: Floats, scales: Floats, grid: Grid) -> Integers:
    """The nearest integers; pairs beyond their bound give way by half of the excess each."""
    rounded = np.clip(np.rint(weights / scales[:, :, None]), -grid.limit, grid.limit).astype(np.int16)
    return within_pairs(rounded) if grid.paired else rounded


def within_pairs(integers: Integers) -> Integers:
    """The nearest integers, in squared distance, whose neighbours keep `PAIR_LIMIT`.

    Only neighbours of one sign can exceed it: magnitudes are at most `EIGHT_BITS`.
    """
    result = integers.copy()
    even = result.shape[2] // 2 * 2
    first, second = result[:, :, 0:even:2], result[:, :, 1:even:2]
    sums = first + second
    beyond = np.nonzero(np.abs(sums) > PAIR_LIMIT)
    excess = np.abs(sums[beyond]) - PAIR_LIMIT
    signs = np.sign(sums[beyond])
    first[beyond] -= signs * ((excess + 1) // 2)
    second[beyond] -= signs * (excess // 2)
    return result


def gptq(weights: Floats, hessian: Doubles, scales: Floats, grid: Grid) -> Integers:
    """Rounds column by column, each time moving the error into the columns that are still free.

    Args:
        weights: [G, M, K].
        hessian: [G, K, K].
        scales: [G, M].
        grid: the integers.

    Returns:
        int16 [G, M, K], the weights divided by their scales and rounded.
    """
    return Gptq(hessian).rounded(weights, scales, grid)


def best_rounding(
    weights: Floats, hessian: Doubles, grid: Grid, levels: npt.NDArray[np.float64]
) -> tuple[Floats, Integers]:
    """The scale of each row with the least `eᵀ H e` behind `gptq`, for kernels of few weights.

    How well a handful of weights meets the grid is a matter of luck, and each scale is another draw.

    Args:
        weights: [G, M, K].
        hessian: [G, K, K].
        grid: the integers.
        levels: as for `best_scales`.

    Returns:
        float32 [G, M] scales, and int16 [G, M, K] integers.
    """
    largest = np.abs(weights).max(axis=2)
    groups, rows = weights.shape[:2]
    tries = _scales_of(largest, levels)  # [levels, G, M]
    at_once = max(1, _TRIES_LIMIT_BYTES // (8 * weights.size))
    way = Gptq(hessian)
    best = np.full(largest.shape, np.inf)
    scales = tries[0]
    integers = np.zeros(weights.shape, dtype=np.int16)
    for start in range(0, len(levels), at_once):
        # Every scale makes a matrix of its own; to GPTQ they are more rows of one.
        some = tries[start : start + at_once].transpose(1, 0, 2).reshape(groups, -1)
        repeated = np.tile(weights, (1, some.shape[1] // rows, 1))
        rounded = way.rounded(repeated, some, grid)
        costs = _cost(repeated - rounded * some[:, :, None].astype(np.float64), hessian)
        for number in range(some.shape[1] // rows):
            of = slice(number * rows, (number + 1) * rows)
            # The first one also where errors are too large for float32 to compare.
            better = (costs[:, of] < best) | (start + number == 0)
            best = np.where(better, costs[:, of], best)
            scales = np.where(better, some[:, of], scales)
            integers = np.where(better[:, :, None], rounded[:, of], integers)
    return scales, integers


def _scales_of(largest: Floats, levels: npt.NDArray[np.float64]) -> Floats:
    """The scales [levels, G, M] that bring the largest weights [G, M] to the levels; 1 for rows of zeros."""
    scales = np.where(largest > 0, largest / levels.astype(np.float32)[:, None, None], np.float32(1.0))
    return np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)


class Gptq:
    """Frantar et al. 2022, "GPTQ" (arXiv 2210.17323), algorithm 1; columns by descending diagonal.

    Args:
        hessian: [G, K, K].

    Raises:
        EngineError: it is not finite.
    """

    def __init__(self, hessian: Doubles) -> None:
        self._order = np.argsort(-np.einsum("gkk->gk", hessian), axis=1, kind="stable")
        self._place = np.argsort(self._order, axis=1, kind="stable")
        self._upper = _inverse_factor(hessian, self._order)

    def rounded(self, weights: Floats, scales: Floats, grid: Grid) -> Integers:
        """The integers of [G, M, K] weights with [G, M] scales.

        Where a column's neighbour is already fixed at o, the column is bounded to `[max(-limit, -128 -
        min(o, 0)), min(limit, 128 - max(o, 0))]`, and the error of that bound moves on as well.
        """
        depth = weights.shape[2]
        order, place, upper = self._order, self._place, self._upper
        # In units of the scale, so that a column is rounded without another division; [G, K, M], so that a
        # column lies together in memory.
        free = _columns_first(weights / scales[:, :, None].astype(np.float64), order)
        fixed = np.zeros(free.shape)
        errors = np.empty(free.shape)
        partner = np.take_along_axis(place, np.minimum(order ^ 1, depth - 1), axis=1)
        known = (partner < np.arange(depth)) & ((order ^ 1) < depth) & grid.paired
        bounded = known.any(axis=0)
        groups = np.arange(len(weights))
        limit = float(grid.limit)
        for column in range(depth):
            value, rounded, error = free[:, column], fixed[:, column], errors[:, column]
            np.rint(value, out=rounded)
            np.minimum(np.maximum(rounded, -limit, out=rounded), limit, out=rounded)
            if bounded[column]:
                other = fixed[groups, partner[:, column]] * known[:, column, None]
                rounded += other
                np.minimum(np.maximum(rounded, -PAIR_LIMIT, out=rounded), PAIR_LIMIT, out=rounded)
                rounded -= other
            np.subtract(value, rounded, out=error)
            error /= upper[:, column, column, None]
            _pass_on(free, errors, upper, column + 1)
        result: Integers = _taken(fixed, place).astype(np.int16)
        return np.ascontiguousarray(result.transpose(0, 2, 1))


def _columns_first(weights: Doubles, order: npt.NDArray[np.int64]) -> Doubles:
    """[G, M, K] → [G, K, M] with the columns in the given order [G, K]."""
    return _taken(np.ascontiguousarray(weights.transpose(0, 2, 1)), order)


def _taken(table: npt.NDArray[Any], order: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """[G, K, M] → the rows of each group in its order [G, K]."""
    if len(table) == 1:  # four times as fast
        return np.asarray(table[0].take(order[0], axis=0)[None])
    return np.asarray(np.take_along_axis(table, order[:, :, None], axis=1))


def _pass_on(free: Doubles, errors: Doubles, upper: Doubles, done: int) -> None:
    """Moves errors of the first `done` columns into free ones, as late as blocks of columns allow.

    The column behind a block of 2^i columns, with the next ones up to another such block, takes that block's
    errors in one product: every pair of columns meets once, most of them in products of large matrices.
    """
    depth = free.shape[1]
    if done == depth:
        return
    size = done & -done
    behind = slice(done, depth if size >= _BLOCK else min(done + size, depth))
    size = min(size, _BLOCK)
    before = slice(done - size, done)
    free[:, behind] -= upper[:, before, behind].transpose(0, 2, 1) @ errors[:, before]


def damped(hessian: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The Hessian with `_DAMPING` of its mean diagonal added to it; of 1, where all inputs are zero."""
    result = hessian.astype(np.float64)
    diagonal = np.einsum("gkk->gk", result)  # a view
    mean = diagonal.mean(axis=1, keepdims=True)
    diagonal += _DAMPING * np.where(mean > 0, mean, 1.0)
    return result


def _inverse_factor(hessian: Doubles, order: npt.NDArray[np.int64]) -> Doubles:
    """U, upper triangular, with `UᵀU = H⁻¹` in the given order of columns; GPTQ's `Cholesky(H⁻¹)ᵀ`."""
    rows = _taken(damped(hessian), order)
    ordered = _taken(rows.transpose(0, 2, 1), order)  # the Hessian is symmetric
    if not np.isfinite(ordered).all():  # the factorization may well end in numbers all the same
        raise EngineError(_ABSURD)
    # H = R Rᵀ with the columns reversed gives the factor of the inverse without forming the inverse:
    # J H J = L Lᵀ ⇒ H⁻¹ = (J L⁻¹ J)ᵀ (J L⁻¹ J), and J L⁻¹ J is upper triangular.
    inverse = _inverse_of_cholesky(ordered[:, ::-1, ::-1])
    return np.ascontiguousarray(inverse[:, ::-1, ::-1])


def _inverse_of_cholesky(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """L⁻¹ of each [K, K] matrix L Lᵀ; raises EngineError for one that is not positive definite."""
    from scipy.linalg import lapack

    result = np.empty_like(matrices)
    for number, matrix in enumerate(matrices):
        # LAPACK's own inverse of a triangle takes a quarter of the time of numpy's solver, which factors L
        # again as if it were any matrix.
        lower, failed = lapack.dpotrf(matrix, lower=1, clean=1)
        if not failed:
            result[number], failed = lapack.dtrtri(lower, lower=1)
        if failed or not np.isfinite(result[number]).all():
            raise EngineError(_ABSURD)
    return result
