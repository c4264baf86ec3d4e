"""Which weights count as those of an operator: up to positive factors, rounding and channels of zeros."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from quantize.refine.geometry import Geometry
from quantize.refine.same_weights import GivenWeights, Likeness, likeness_of

Array = npt.NDArray[np.float32]


def conv(shape: tuple[int, ...], groups: int = 1) -> Geometry:
    kernel = (shape[2], shape[3])
    return Geometry("Conv", groups, kernel, (1, 1), (1, 1), (0, 0, 0, 0), True, shape, False)


def gemm(shape: tuple[int, int], *, transposed: bool) -> Geometry:
    one = (1, 1)
    return Geometry("Gemm", 1, one, one, one, (0, 0, 0, 0), True, shape, transposed)


GEOMETRIES = {
    "stem": conv((16, 3, 3, 3)),
    "depthwise": conv((12, 1, 3, 3), groups=12),
    "pointwise": conv((24, 8, 1, 1)),
    "grouped": conv((12, 4, 3, 3), groups=3),
    "gemm": gemm((20, 30), transposed=False),
    "gemm transposed": gemm((20, 30), transposed=True),
}


def weights(geometry: Geometry, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 0.1, geometry.weight_shape).astype(np.float32)


def rescaled(values: Array, geometry: Geometry, seed: int = 9) -> Array:
    """With factors from 0.1 to 10 per output row and input channel."""
    random = np.random.default_rng(seed)
    rows = 10 ** random.uniform(-1, 1, (geometry.groups, geometry.outputs // geometry.groups, 1))
    columns = 10 ** random.uniform(-1, 1, geometry.inputs)
    packed = geometry.pack(values) * rows * geometry.spread_inputs(columns)
    return geometry.unpack(packed.astype(np.float32))


def rounded(values: Array, geometry: Geometry, *, limit: int = 127, reach: float = 1.0) -> GivenWeights:
    """Integers with one scale per output channel, which saturate beyond `reach` of the largest."""
    packed = geometry.pack(values)
    scale = np.abs(packed).max(axis=2, keepdims=True) * reach / limit
    integers = np.clip(np.rint(packed / scale), -limit, limit)
    # Every row has a scale of its own; the axis of output channels in the operator's own layout.
    axis = 0 if geometry.op_type == "Conv" or geometry.transposed else 1
    shaped = geometry.unpack(integers)
    return GivenWeights(geometry.unpack(integers * scale), shaped, axis)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_rounded_weights_are_equal(name: str) -> None:
    geometry = GEOMETRIES[name]
    values = weights(geometry, 1)
    assert likeness_of(rounded(values, geometry, limit=64), values, geometry) is Likeness.EQUAL


@pytest.mark.parametrize("reach", [1.0, 0.5])  # half: a third of these weights saturates
@pytest.mark.parametrize("name", GEOMETRIES)
def test_factors_rounding_and_saturation_hide_nothing(name: str, reach: float) -> None:
    geometry = GEOMETRIES[name]
    values = weights(geometry, 1)
    changed = rounded(rescaled(values, geometry), geometry, limit=64, reach=reach)
    assert likeness_of(changed, values, geometry) is Likeness.SCALED


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("seed", range(2, 12))
def test_other_weights_are_others(name: str, seed: int) -> None:
    geometry = GEOMETRIES[name]
    other = rounded(weights(geometry, seed), geometry)
    assert likeness_of(other, weights(geometry, 1), geometry) is None


@pytest.mark.parametrize("name", GEOMETRIES)
def test_negative_factors_are_another_operator(name: str) -> None:
    geometry = GEOMETRIES[name]
    values = weights(geometry, 1)
    assert likeness_of(rounded(-rescaled(values, geometry), geometry), values, geometry) is None


def test_weights_that_moved_by_half_their_size_are_others() -> None:
    geometry = GEOMETRIES["pointwise"]
    values = weights(geometry, 1)
    trained = values + 0.5 * weights(geometry, 2)
    assert likeness_of(rounded(trained, geometry), values, geometry) is None


def test_channels_of_zeros_are_padding_and_others_are_not() -> None:
    geometry = GEOMETRIES["stem"]
    values = weights(geometry, 1)
    given = rounded(rescaled(values, geometry), geometry)
    assert given.integers is not None
    pads = ((0, 0), (0, 1), (0, 0), (0, 0))
    padded = GivenWeights(np.pad(given.values, pads), np.pad(given.integers, pads), given.axis)
    assert likeness_of(padded, values, geometry) is Likeness.SCALED
    padded.values[3, 3, 1, 1] = 0.01
    assert likeness_of(padded, values, geometry) is None


def test_rows_and_channels_of_zeros_tell_nothing() -> None:
    geometry = GEOMETRIES["pointwise"]
    values = weights(geometry, 1)
    changed = rescaled(values, geometry)
    changed[:4] = 0
    changed[:, 2] = 0
    assert likeness_of(GivenWeights(changed), values, geometry) is Likeness.SCALED
    changed[: 2 * len(changed) // 3] = 0  # most of it is gone
    assert likeness_of(GivenWeights(changed), values, geometry) is None


def test_too_few_weights_to_tell_factors_from_other_weights() -> None:
    geometry = conv((6, 1, 1, 1), groups=6)  # one weight per channel, and one factor
    values = weights(geometry, 1)
    assert likeness_of(GivenWeights(values), values, geometry) is Likeness.EQUAL
    assert likeness_of(GivenWeights(3 * values), values, geometry) is None


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_numbers_that_are_none_are_no_weights(number: float) -> None:
    geometry = GEOMETRIES["gemm"]
    values = weights(geometry, 1)
    broken = np.full(values.shape, number, dtype=np.float32)
    assert likeness_of(GivenWeights(broken), values, geometry) is None


def test_other_shapes_are_others() -> None:
    geometry = GEOMETRIES["gemm"]
    values = weights(geometry, 1)
    for other in (values.T, values[:, :5], values[0]):
        assert likeness_of(GivenWeights(other), values, geometry) is None
