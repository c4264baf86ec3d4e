"""How weights meet inputs: vectors, packing, means; against onnx's reference convolution and exact sums."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quantize.refine.geometry import Geometry
from quantize.refine.observe import channel_means
from quantize.refine.sums import IntegerOperator, TapSums
from tests.robustness.covering import arrays, covers, exact, within

GEOMETRIES = st.builds(
    lambda groups, each, out, kernel, strides, dilations, pads, auto, upper: Geometry(
        "Conv",
        groups,
        kernel,
        strides,
        dilations,
        None if auto else pads,
        upper,
        (groups * out, each, *kernel),
        False,
    ),
    groups=st.integers(1, 3),
    each=st.integers(1, 3),
    out=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    auto=st.booleans(),
    upper=st.booleans(),
)


@covers(
    "quantize.refine.geometry.Geometry.vectors",
    "quantize.refine.geometry.Geometry.positions",
    "quantize.refine.geometry.Geometry.pack",
    "quantize.refine.geometry.Geometry.unpack",
    "quantize.refine.geometry.Geometry._pads",
    "quantize.refine.geometry.Geometry._output_extents",
    does="packed weights times sampled vectors are what onnx's reference convolution makes, exactly",
)
@given(geometry=GEOMETRIES, seed=st.integers(0, 99))
def test_products_are_those_of_the_convolution(geometry: Geometry, seed: int) -> None:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    random = np.random.default_rng(seed)
    data = random.integers(-9, 10, (1, geometry.inputs, 6, 7)).astype(np.float32)
    weights = random.integers(-9, 10, geometry.weight_shape).astype(np.float32)
    np.testing.assert_array_equal(geometry.unpack(geometry.pack(weights)), weights)
    # The evaluator's own auto_pad leaves out SAME_LOWER; explicit pads say the same.
    top, left, bottom, right = geometry._pads((6, 7))
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        group=geometry.groups,
        kernel_shape=geometry.kernel,
        strides=geometry.strides,
        dilations=geometry.dilations,
        pads=[top, left, bottom, right],
    )
    (wanted,) = ReferenceEvaluator(node).run(None, {"x": data, "w": weights})
    count = geometry.positions(data.shape[1:])
    assert count == wanted[0, 0].size
    vectors = geometry.vectors(data[0], np.arange(count))
    found = np.einsum("gmk,pgk->gmp", geometry.pack(weights), vectors).reshape(wanted[0].shape)
    np.testing.assert_array_equal(found, wanted[0])


@covers(
    "quantize.refine.geometry.Geometry.taken",
    "quantize.refine.geometry.Geometry.by_channel",
    does="what the taps meet, added up, is the sum of the vectors of all output positions",
)
@given(geometry=GEOMETRIES, seed=st.integers(0, 99))
def test_sums_of_taps_are_those_of_the_vectors(geometry: Geometry, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, (geometry.inputs, 6, 7)).astype(np.float32)
    positions = np.arange(geometry.positions(data.shape))
    wanted = geometry.vectors(data, positions).sum(axis=0)  # [groups, (tap, channel)]
    sums = geometry.by_channel(data) @ geometry.taken(data.shape).astype(np.float32)
    by_group = sums.reshape(geometry.groups, -1, sums.shape[1]).transpose(0, 2, 1)
    np.testing.assert_array_equal(by_group.reshape(geometry.groups, -1), wanted)


@covers(
    "quantize.refine.sums.IntegerOperator.means",
    does="the mean of what an integer operator makes is exact to float64, for uint8 and int8 alike",
)
@given(
    geometry=GEOMETRIES,
    seed=st.integers(0, 99),
    signed=st.booleans(),
    scale=st.sampled_from([2e-6, 0.03, 1.0, 999.0]),
)
def test_means_are_exact(geometry: Geometry, seed: int, signed: bool, scale: float) -> None:
    random = np.random.default_rng(seed)
    least, zero = (-128, 0) if signed else (0, int(random.integers(256)))
    data = random.integers(least, least + 256, (geometry.inputs, 6, 7))
    weights = random.integers(-127, 128, geometry.weight_shape)
    operator = IntegerOperator(
        geometry=geometry,
        data="x",
        data_scale=scale,
        zero_point=zero,
        weights=geometry.pack(weights),
        scale=random.uniform(0.001, 1, geometry.outputs).astype(np.float32).astype(np.float64),
        bias=random.normal(0, 1, geometry.outputs).astype(np.float32).astype(np.float64),
    )
    sums = TapSums()(data.astype(np.int8 if signed else np.uint8), geometry.taken(data.shape), operator)
    count = geometry.positions(data.shape)
    found = operator.means(sums[None], count)[0]
    # Padding is zero, which is what the zero point stands for.
    vectors = geometry.vectors((data - zero).astype(np.float32), np.arange(count)).astype(np.int64)
    products = np.einsum("gmk,pgk->gm", geometry.pack(weights), vectors).reshape(-1)
    for product, step, bias, mean in zip(
        products.tolist(), operator.scale, operator.bias, found, strict=True
    ):
        part = Fraction(product) * Fraction(scale) * Fraction(float(step)) / count
        wanted = part + Fraction(float(bias))
        assert abs(Fraction(float(mean)) - wanted) <= (abs(part) + abs(wanted)) / (1 << 50)


def test_a_product_takes_every_row_of_its_input() -> None:
    geometry = Geometry("Gemm", 1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), True, (5, 3), True)
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    sums = geometry.by_channel(data) @ geometry.taken(data.shape)
    np.testing.assert_array_equal(sums[:, 0], data.sum(axis=0))


@covers(
    "quantize.refine.geometry.Geometry.spread_inputs",
    "quantize.refine.observe.channel_means",
    does="factors of input channels meet the right weights; means are exact to float32",
)
@given(geometry=GEOMETRIES, factors=arrays(9, elements=within(100.0)), raw=arrays(3, 5))
def test_inputs_are_spread_over_the_taps(geometry: Geometry, factors: Any, raw: Any) -> None:
    factors = factors[: geometry.inputs]
    weights = np.ones(geometry.weight_shape, np.float32)
    by_group = factors.reshape(geometry.groups, -1)
    group = np.arange(geometry.outputs) * geometry.groups // geometry.outputs
    wanted = weights * by_group[group][:, :, None, None]
    np.testing.assert_array_equal(
        geometry.pack(weights) * geometry.spread_inputs(factors), geometry.pack(wanted)
    )
    means = channel_means(raw, "Conv")
    for row, mean in zip(raw, means, strict=True):
        wanted_mean = sum(exact(row), Fraction(0)) / len(row)
        assert abs(Fraction(float(mean)) - wanted_mean) <= abs(wanted_mean) / (1 << 23) + Fraction(
            float(np.abs(row).max())
        ) / (1 << 45) + Fraction(1, 1 << 149)
