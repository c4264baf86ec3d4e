"""Integer kernels in numpy: exact ones, and ones that add neighbouring products in int16 with saturation.

The second are those of x86 CPUs without VNNI, exactly as `quantize/portability.py` and DESIGN describe them:
`VPMADDUBSW` multiplies uint8 activations by int8 weights and adds the products 2i and 2i + 1 in int16; zero
points are taken off afterwards, from sums of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.refine.geometry import Geometry

Array = npt.NDArray[Any]


def products(activations: Array, weights: Array, *, saturating: bool) -> Array:
    """`activations [P, K]` times `weights [M, K]`, integers, added in int32: [P, M]."""
    a, w = activations.astype(np.int64), weights.astype(np.int64)
    if not saturating:
        return a @ w.T
    if a.shape[1] % 2:
        a, w = (np.pad(one, ((0, 0), (0, 1))) for one in (a, w))
    pairs = a[:, None, :] * w[None, :, :]
    sums = np.clip(pairs[:, :, 0::2] + pairs[:, :, 1::2], -32768, 32767)
    found: Array = sums.sum(axis=2)
    return found


def requantized(sums: Array, multiplier: Array, zero_point: int, kind: Any) -> Array:
    """int32 sums to 8 bits: multiplied in float32, rounded half to even, saturated."""
    scaled = np.rint(sums.astype(np.float32) * np.asarray(multiplier, np.float32))
    limits = np.iinfo(kind)
    return np.clip(scaled.astype(np.int64) + zero_point, limits.min, limits.max).astype(kind)


def qlinear_matmul(*operands: Any, saturating: bool = False) -> Array:
    """QLinearMatMul of two dimensions, with the operator's eight inputs."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands
    sums = _centred(a, int(a_zero), b.T, np.asarray(b_zero).reshape(-1), saturating=saturating)
    multiplier = np.float32(a_scale) * np.asarray(b_scale, np.float32) / np.float32(y_scale)
    return requantized(sums, multiplier, int(y_zero), np.asarray(y_zero).dtype)


def qlinear_conv(
    *operands: Any,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    strides: tuple[int, int] = (1, 1),
    group: int = 1,
    saturating: bool = False,
) -> Array:
    """QLinearConv over two spatial axes, with the operator's eight or nine inputs.

    Depthwise kernels never saturate.
    """
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *rest = operands
    bias = rest[0] if rest else None
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=x_zero)
    geometry = Geometry(
        "Conv", group, w.shape[2:4], strides, (1, 1), (0, 0, 0, 0), True, tuple(w.shape), False
    )
    multiplier = np.float32(x_scale) * np.asarray(w_scale, np.float32).reshape(-1) / np.float32(y_scale)
    multiplier = np.broadcast_to(multiplier, (len(w),)).reshape(group, -1)
    zeros = np.broadcast_to(np.asarray(w_zero).reshape(-1), (len(w),)).reshape(group, -1)
    offsets = np.zeros((group, len(w) // group), np.int64) if bias is None else bias.reshape(group, -1)
    packed = geometry.pack(w)
    extents = [(x.shape[axis + 2] - w.shape[axis + 2]) // strides[axis] + 1 for axis in (0, 1)]
    images = []
    for image in x:
        vectors = geometry.vectors(image, np.arange(geometry.positions(image.shape)))
        by_group = [
            requantized(
                _centred(
                    vectors[:, g], int(x_zero), packed[g], zeros[g],
                    saturating=saturating and not geometry.depthwise,
                ) + offsets[g],
                multiplier[g], int(y_zero), np.asarray(y_zero).dtype,
            ).T
            for g in range(group)
        ]  # fmt: skip
        images.append(np.concatenate(by_group).reshape(len(w), *extents))
    return np.stack(images)


def _centred(a: Array, a_zero: int, w: Array, w_zero: Array, *, saturating: bool) -> Array:
    """Σ (a - a_zero)(w - w_zero), the sums of products as the kernels form them."""
    w64 = w.astype(np.int64)
    sums = products(a, w, saturating=saturating)
    sums = sums - a_zero * w64.sum(axis=1) - np.outer(a.astype(np.int64).sum(axis=1), w_zero)
    found: Array = sums + a.shape[1] * a_zero * w_zero.astype(np.int64)
    return found
