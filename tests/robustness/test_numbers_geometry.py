"""How weights meet inputs: vectors, packing, means; against onnx's reference convolution and exact sums."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quantize.refine.geometry import Geometry
from quantize.refine.observe import channel_means
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
