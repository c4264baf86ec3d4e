"""Which operators can be integers, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from quantize.graph import GraphIndex
from quantize.operators import Inventory, clip_bounds, is_depthwise, take_inventory
from quantize.prepare import infer_types
from quantize.target import PORTABLE
from tests.quantize.models import CLASSES, ZOO, Net, zoo_case


def inventory_of(net: Net, **options: Any) -> Inventory:
    """Without `prepare`, so that nothing is folded."""
    return take_inventory(infer_types(net.model(**options)), PORTABLE)


def reasons(name: str, opset: int = 13) -> dict[str, str]:
    return {operator.op_type: operator.reason for operator in zoo_case(name, opset).inventory.floating}


@pytest.mark.parametrize("name", ZOO)
def test_every_float_operator_is_somewhere_once(name: str) -> None:
    case = zoo_case(name)
    inventory = case.inventory
    types = {value.name: value.type.tensor_type.elem_type for value in case.prepared.graph.value_info}
    listed = [operator.name for operator in inventory.quantizable]
    listed += [operator.activation for operator in inventory.quantizable if operator.activation is not None]
    listed += [operator.name for operator in inventory.floating]
    listed += inventory.movement
    assert len(set(listed)) == len(listed)
    rest = [node for node in case.prepared.graph.node if node.name not in listed]
    assert all(types[node.output[0]] in {TensorProto.INT64, TensorProto.BOOL} for node in rest)


def test_a_mobilenet_is_all_integers() -> None:
    inventory = zoo_case("inverted_residual").inventory
    assert inventory.floating == ()
    assert inventory.weighted_count() == 6
    assert [operator.float_output for operator in inventory.quantizable].count(True) == 1
    assert sum(operator.depthwise for operator in inventory.quantizable) == 1
    last = inventory.quantizable[-1]
    assert last.tensors == last.inputs


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("relu_chain_with_softmax", "Softmax", "no integer kernel for Softmax"),
        ("batch_norms_that_stay", "BatchNormalization", "no integer kernel for BatchNormalization"),
        ("hard_sigmoid", "HardSigmoid", "no integer kernel for HardSigmoid"),
        ("leaky_and_parametric_relu", "PRelu", "no integer kernel for PRelu"),
        ("fire_module", "GlobalAveragePool", "scores keep their resolution"),
        ("attention", "MatMul", "its weights are not constant"),
        ("tokens", "Add", "one operand is a constant"),
        ("rough_pools", "MaxPool", "it returns indices as well"),
        ("gated_scores", "Clip", "no integer kernel for Clip"),
    ],
)
def test_reasons(name: str, kind: str, reason: str) -> None:
    assert reason in reasons(name)[kind]


def test_a_dilated_average_pool_stays_float() -> None:
    """The integer kernel would ignore the dilations."""
    assert reasons("rough_pools", 21)["AveragePool"] == "the integer AveragePool has no dilations"
    assert "AveragePool" not in reasons("rough_pools", 13)


def test_arithmetic_on_shapes_is_not_listed() -> None:
    net = Net()
    x = net.conv("image", 3, 6)
    size = net.node("Mul", net.node("Shape", x), net.constant([1, 1, 1, 1], np.int64))
    net.node("Flatten", net.node("Reshape", x, size), output="scores")
    inventory = inventory_of(net, classes=None)
    assert inventory.floating == () and len(inventory.movement) == 2


Build = Callable[[Net], str]


def weighted(net: Net, kind: str, *inputs: str, **attributes: Any) -> str:
    return net.node(kind, *inputs, output="scores", **attributes)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda n: weighted(n, "MatMul", n.weight(4, 4), "image"), "its weights are not constant"),
        (lambda n: weighted(n, "MatMul", n.weight(4, 4), n.weight(4, 4)), "its data input is a constant"),
        (lambda n: weighted(n, "MatMul", "image", n.weight(10)), "its weights have rank 1, not 2"),
        (lambda n: weighted(n, "MatMul", "image", n.weight(1, 3, 10, 4)), "its weights have rank 4, not 2"),
        (
            lambda n: weighted(n, "Conv", "image", n.constant(np.full((2, 3, 1, 1), np.nan))),
            "its weights are not finite",
        ),
        (
            lambda n: weighted(n, "Conv", "image", n.weight(2, 3, 1, 1), n.constant([np.inf, 0.0])),
            "its bias is not finite",
        ),
        (
            lambda n: weighted(n, "Conv", "image", n.weight(2, 3, 1, 1), n.node("Identity", n.weight(2))),
            "its bias is not constant",
        ),
        (
            lambda n: weighted(n, "Gemm", n.node("Flatten", "image"), n.weight(4, 5), transA=1),
            "its data input is transposed",
        ),
        (
            lambda n: weighted(
                n, "Gemm", n.node("Flatten", "image"), n.weight(300, 5), n.constant(np.zeros((5, 1)))
            ),
            "its bias differs from image to image",
        ),
        (
            lambda n: weighted(n, "Conv", "image", n.constant(np.zeros((2, 3, 1, 1)), np.float64)),
            "its weights are float64",
        ),
    ],
)
def test_why_weighted_operators_stay_float(build: Build, reason: str) -> None:
    net = Net()
    build(net)
    inventory = inventory_of(net, output_shape=[])
    assert reason in [operator.reason for operator in inventory.floating]
    assert inventory.quantizable == ()


def test_half_precision_is_named() -> None:
    net = Net()
    half = net.node("Cast", "image", to=TensorProto.FLOAT16)
    x = net.node("Conv", half, net.constant(np.zeros((6, 3, 1, 1)), np.float16))
    net.node("Cast", x, output="scores", to=TensorProto.FLOAT)
    found = {operator.op_type: operator.reason for operator in inventory_of(net, output_shape=[]).floating}
    assert found["Conv"] == "it computes FLOAT16, not float32"


def test_a_gemm_with_a_bias_per_image_keeps_its_numbers() -> None:
    """With a fixed batch a bias of shape [N, 1] is legal; as one per channel it would be wrong."""
    net = Net()
    x = net.node("Flatten", net.node("GlobalAveragePool", net.conv("image", 3, 6)))
    bias = net.constant(np.arange(CLASSES, dtype=np.float32)[:, None])
    net.node("Gemm", x, net.weight(6, CLASSES), bias, output="scores")
    assert [operator.op_type for operator in inventory_of(net, batch=CLASSES).quantizable] == [
        "Conv",
        "GlobalAveragePool",
    ]


@pytest.mark.parametrize(
    ("build", "bounds"),
    [
        (lambda n: n.relu("image"), (0.0, np.inf)),
        (lambda n: n.clip("image", -1.0, 2.0), (-1.0, 2.0)),
        (lambda n: n.node("Clip", "image"), (-np.inf, np.inf)),
        (lambda n: n.node("Clip", "image", "", n.constant(6.0)), (-np.inf, 6.0)),
        (lambda n: n.node("Clip", "image", n.constant(0.5)), (0.5, np.inf)),
        (lambda n: n.node("Clip", "image", "image"), None),
    ],
)
def test_clip_bounds(build: Build, bounds: tuple[float, float] | None) -> None:
    net = Net()
    build(net)
    assert clip_bounds(net.nodes[0], GraphIndex(net.model().graph)) == bounds


@pytest.mark.parametrize(
    ("low", "high", "absorbed"),
    [(0.0, 6.0, True), (-1.0, 1.0, True), (-6.0, 0.0, True), (0.5, 6.0, False), (0.0, 0.0, False)],
)
def test_only_a_clip_around_zero_is_absorbed(low: float, high: float, absorbed: bool) -> None:
    net = Net()
    net.head(net.conv(net.clip(net.conv("image", 3, 6), low, high), 6, 6), 6)
    assert (inventory_of(net).quantizable[0].activation is not None) is absorbed


def test_an_activation_whose_input_is_the_output_is_not_absorbed() -> None:
    net = Net()
    x = net.conv("image", 3, CLASSES, output="scores")
    net.node("GlobalAveragePool", net.conv(net.relu(x), CLASSES, 3))
    assert inventory_of(net, output_shape=[]).quantizable[0].activation is None


def test_depthwise() -> None:
    net = Net()
    net.conv("image", 3, 3, group=3)
    net.conv("image", 3, 6, group=3)
    net.conv("image", 3, 6)
    net.relu("image")
    index = GraphIndex(net.model().graph)
    assert [is_depthwise(node, index) for node in net.nodes] == [True, False, False, False]
