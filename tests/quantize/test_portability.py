"""The bound on pairs of weights: against every input there is, in both formats, in every order of packing."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quantize.export import to_qoperator
from quantize.metrics import Equality
from quantize.portability import EXACT_KERNELS, PairBound, Portability, check_pairs, pairs_are_bounded
from quantize.session import make_session, outputs
from quantize.target import PORTABLE, TENSORRT, VNNI
from tests.quantize.models import ZOO, Net, make_case, zoo_case

INT8 = st.integers(-128, 127)


def saturates(a: int, b: int) -> bool:
    """What VPMADDUBSW does with some pair of uint8 activations, by trying the extreme ones."""
    sums = [x * a + y * b for x, y in itertools.product((0, 255), repeat=2)]
    return max(sums) > 32767 or min(sums) < -32768


@given(a=INT8, b=INT8)
def test_the_bound_is_exactly_what_int16_holds(a: int, b: int) -> None:
    # -129 · 255 = -32,895 and 129 · 255 = 32,895 are the first multiples beyond int16 on either side.
    assert pairs_are_bounded(np.array([[a, b]])) is not saturates(a, b)


@pytest.mark.parametrize(
    ("weights", "bounded"),
    [
        ([[127, -127, 127, 1]], True),  # opposite signs are free
        ([[1, 127, 127, 1]], True),  # 127 and 127 are neighbours, but no pair
        ([[127, 127]], False),
        ([[0, 0, 100, 29]], False),
        ([[0, 0, 100, 28]], True),
        ([[0, 0, -100, -29]], False),
        ([[64, 64, 127]], True),  # the last of an odd number is alone
        ([[64, 64], [65, 64]], False),  # any channel
        ([[-128, 0]], True),
    ],
)
def test_pairs(weights: list[list[int]], bounded: bool) -> None:
    assert pairs_are_bounded(np.array(weights)) is bounded


def conv_model(weights: np.ndarray, *, group: int = 1, kind: str = "QLinearConv") -> onnx.ModelProto:
    """One convolution in one of its spellings; [M, cin, kh, kw] int8 weights."""
    constants = {
        "scale": np.float32(1.0),
        "zero": np.uint8(3),
        "w_zero": np.int8(0),
        "w": weights.astype(np.int8),
    }
    if kind == "Conv":
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
            helper.make_node("DequantizeLinear", ["w", "scale", "w_zero"], ["wf"]),
            helper.make_node("Conv", ["x", "wf"], ["y"], "conv", group=group),
        ]
    else:
        inputs = ["q", "scale", "zero", "w", "scale", "w_zero", "scale", "zero"]
        nodes = [helper.make_node("QLinearConv", inputs, ["y"], "conv", group=group)]
    graph = helper.make_graph(
        nodes, "g", [], [], [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    return helper.make_model(graph)


@pytest.mark.parametrize("kind", ["Conv", "QLinearConv"])
def test_pairs_of_a_convolution_run_over_channels_first(kind: str) -> None:
    weights = np.zeros((1, 2, 1, 2))
    weights[0, 0] = 127  # channel 0 at both positions: packed 127, 0, 127, 0
    assert check_pairs(conv_model(weights, kind=kind)).holds
    weights = np.zeros((1, 2, 1, 2))
    weights[0, :, 0, 0] = 127  # both channels at one position: packed 127, 127, 0, 0
    assert check_pairs(conv_model(weights, kind=kind)) == PairBound(1, 0, ("conv",))


@pytest.mark.parametrize("kind", ["Conv", "QLinearConv"])
def test_an_odd_number_of_channels_is_held_against_both_orders(kind: str) -> None:
    flat = np.zeros(6)
    flat[[2, 3]] = 127  # the last channel of one position and the first of the next
    across = flat.reshape(1, 1, 2, 3).transpose(0, 3, 1, 2)
    # Flattened, the pairs are (0, 1), (2, 3), (4, 5): caught. Within positions they are (0, 1) and 2 alone.
    assert not check_pairs(conv_model(across, kind=kind)).holds
    flat = np.zeros(6)
    flat[[3, 4]] = 127  # the first two channels of the second position
    within = flat.reshape(1, 1, 2, 3).transpose(0, 3, 1, 2)
    assert not check_pairs(conv_model(within, kind=kind)).holds
    flat = np.zeros(6)
    flat[[1, 2]] = 127  # a pair in neither order
    assert check_pairs(conv_model(flat.reshape(1, 1, 2, 3).transpose(0, 3, 1, 2), kind=kind)).holds


def test_depthwise_convolutions_are_exempt_and_those_with_a_multiplier_are_not() -> None:
    weights = np.full((4, 1, 3, 3), 127)
    assert check_pairs(conv_model(weights, group=4)) == PairBound(0, 1)
    assert check_pairs(conv_model(weights, group=2)) == PairBound(1, 0, ("conv",))


@pytest.mark.parametrize("name", ZOO)
def test_portable_models_hold_in_both_formats_and_vnni_ones_do_not(name: str) -> None:
    """Every weighted operator is seen, however it is spelled."""
    for target in (PORTABLE, VNNI):
        case = zoo_case(name, target=target)
        weighted = [operator for operator in case.inventory.quantizable if operator.weighted]
        deep = sum(operator.depthwise for operator in weighted)
        for model in (case.qdq(), to_qoperator(case.qdq())):
            found = check_pairs(model)
            assert (found.checked, found.exempt) == (len(weighted) - deep, deep)
            assert found.holds is (target is PORTABLE or not found.checked)


@pytest.mark.parametrize("transposed", [0, 1])
def test_pairs_of_a_product_run_over_its_inputs(transposed: int) -> None:
    weights = np.zeros((4, 3))  # [K, N]
    weights[1:3, 0] = 127  # inputs 1 and 2: no pair
    weights[0, 1:] = 127  # two outputs of one input: no pair
    bad = weights.copy()
    bad[2:, 2] = 127  # inputs 2 and 3 of output 2
    for values, holds in ((weights, True), (bad, False)):
        given_as = np.ascontiguousarray(values.T if transposed else values).astype(np.int8)
        names = ["q", "s", "z", "w", "s", "wz", ""]
        products = {
            "QGemm": helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=transposed),
            "QLinearMatMul": helper.make_node("QLinearMatMul", [*names[:6], "s", "z"], ["y"]),
            "MatMulIntegerToFloat": helper.make_node(
                "MatMulIntegerToFloat", ["q", "w", "s", "s", "z", "wz"], ["y"], domain="com.microsoft"
            ),
        }
        constants = [numpy_helper.from_array(given_as, "w"), numpy_helper.from_array(np.uint8(0), "z")]
        for kind, node in products.items():
            if transposed and kind != "QGemm":
                continue
            graph = helper.make_graph([node], "g", [], [], constants)
            assert check_pairs(helper.make_model(graph)).holds is holds, kind


def test_what_cannot_saturate_is_not_counted() -> None:
    """int8 activations, uint8 weights and float operators."""
    assert check_pairs(zoo_case("inverted_residual", target=TENSORRT).qdq()) == PairBound()
    assert check_pairs(zoo_case("inverted_residual").prepared) == PairBound()
    model = conv_model(np.full((1, 2, 1, 1), 127))
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.data_type = TensorProto.UINT8
    assert check_pairs(model) == PairBound()


def test_exact_kernels_give_the_same_numbers_for_a_portable_model() -> None:
    case = zoo_case("fire_module")
    logits = [
        outputs(make_session(case.qdq(), threads=1, config_entries=entries), case.images)
        for entries in ({}, EXACT_KERNELS)
    ]
    np.testing.assert_array_equal(*logits)


def test_both_proofs_are_needed() -> None:
    same, other = Equality(5, 5), Equality(5, 4, 0.1)
    assert Portability(same, PairBound(3, 1)).exact
    assert not Portability(other, PairBound(3, 1)).exact
    assert not Portability(same, PairBound(3, 1, ("conv",))).exact


def test_a_wide_stem_of_odd_channels_is_portable_as_written() -> None:
    net = Net()
    net.head(net.relu(net.conv("image", 3, 6, 5)), 6)
    assert check_pairs(make_case(net.model()).qdq()) == PairBound(2, 0)
