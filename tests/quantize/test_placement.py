"""Where Q/DQ pairs and fences go."""

from __future__ import annotations

import pytest

from quantize.placement import Placement, place
from tests.quantize.models import CLASSES, Net, make_case, zoo_case


def placed(name: str, *left_out: int) -> Placement:
    """The placement with all operators chosen but those at the given positions of the inventory."""
    case = zoo_case(name)
    chosen = dict(case.inventory.by_name())
    for position in left_out:
        del chosen[case.operators[position]]
    return place(case.prepared.graph, case.inventory, chosen)


def test_the_image_and_every_result_but_the_scores_are_quantized() -> None:
    case = zoo_case("inverted_residual")
    found = placed("inverted_residual")
    assert "image" in found.quantized and "image" not in found.integer_made
    assert "scores" not in found.quantized
    results = {operator.output for operator in case.inventory.quantizable if not operator.float_output}
    assert results <= found.integer_made


def test_nothing_chosen_nothing_placed() -> None:
    case = zoo_case("inverted_residual")
    found = place(case.prepared.graph, case.inventory, {})
    assert found == Placement(frozenset(), frozenset(), frozenset(), {}, frozenset(), frozenset())


def test_movement_between_integers_is_tied() -> None:
    case = zoo_case("moved_around")
    chosen = case.inventory.by_name()
    placement = place(case.prepared.graph, case.inventory, chosen)
    assert len(placement.movement) == len(case.inventory.movement)
    assert not placement.barriers
    for result, source in placement.tied.items():
        assert result in placement.quantized and source not in placement.tied


def test_a_float_operator_between_integers_is_fenced() -> None:
    case = zoo_case("moved_around")
    chosen = {
        name: operator for name, operator in case.inventory.by_name().items() if name != case.operators[2]
    }
    placement = place(case.prepared.graph, case.inventory, chosen)
    assert len(placement.barriers) == 1
    assert "Max" in {node.op_type for node in case.qdq(list(chosen)).graph.node}


def test_a_float_operator_behind_floats_needs_no_fence() -> None:
    case = zoo_case("relu_chain_with_softmax")
    last = case.operators[-1]
    chosen = {last: case.inventory.by_name()[last]}
    assert not place(case.prepared.graph, case.inventory, chosen).barriers


def test_movement_before_floats_stays_float() -> None:
    """MaxPool, Transpose and Flatten follow the last integer; nothing reads their integers."""
    found = placed("moved_around", 4)
    assert "flatten_20" not in found.movement


def test_a_product_of_two_dequantized_tensors_is_fenced() -> None:
    case = zoo_case("attention")
    found = placed("attention")
    assert len(found.products) == 1  # the other one reads the float result of Softmax
    (name,) = found.products
    (node,) = (node for node in case.prepared.graph.node if node.name == name)
    assert not any(tensor in case.prepared.graph.initializer for tensor in node.input)


@pytest.mark.parametrize("moves", [["Transpose"], ["Transpose", "Transpose"], []])
def test_fences_look_through_data_movement(moves: list[str]) -> None:
    """integer -> movement -> float Conv -> movement -> Relu -> integer: ONNX Runtime would take it along."""
    net = Net()
    x = net.conv("image", 3, 6)
    for kind in moves:
        x = net.node(kind, x, perm=[0, 1, 3, 2])
    x = net.conv(net.relu(x), 6, 6) if not moves else net.conv(x, 6, 6)
    left_out = net.nodes[-1].name
    for kind in moves:
        x = net.node(kind, x, perm=[0, 1, 3, 2])
    net.head(net.conv(net.relu(x), 6, CLASSES), CLASSES)
    case = make_case(net.model())
    chosen = dict(case.inventory.by_name())
    del chosen[left_out]
    assert len(place(case.prepared.graph, case.inventory, chosen).barriers) == 1
