"""Rounding one tensor of an fp32 network, against the whole network with a Q/DQ pair at that place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantize.refine.tails import Tail, each_tail
from quantize.scales import ActivationScale
from quantize.session import make_session, run
from tests.quantize.models import ZOO, Case, FloatArray, Net, make_case, zoo_case


def single_images(case: Case) -> list[FloatArray]:
    batch = max(case.prepared.graph.input[0].type.tensor_type.shape.dim[0].dim_value, 1)
    return [np.repeat(image[None], batch, axis=0) for image in case.images]


def made_tensors(case: Case) -> list[str]:
    made = {name for node in case.prepared.graph.node for name in node.output}
    outputs = {value.name for value in case.prepared.graph.output}
    return [name for name in case.ranges.extremes.lows if name in made and name not in outputs]


def coarse(case: Case, tensor: str) -> ActivationScale:
    """16 times the step of the tensor's range, so that rounding to it shows."""
    entry = case.ranges.scale(tensor, "minmax")
    return ActivationScale(entry.scale * 16, entry.zero_point // 16)


def whole_scores(case: Case, tensor: str, entry: ActivationScale) -> FloatArray:
    """Scores of the whole network with a pair behind `tensor`."""
    model = onnx.ModelProto()
    model.CopyFrom(case.prepared)
    constants = {"the_scale": np.float32(entry.scale), "the_zero_point": np.uint8(entry.zero_point)}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    nodes = []
    for node in case.prepared.graph.node:
        nodes.append(node)
        if tensor in node.output:
            how = list(constants)
            nodes.append(helper.make_node("QuantizeLinear", [tensor, *how], ["the_integers"]))
            nodes.append(helper.make_node("DequantizeLinear", ["the_integers", *how], ["the_rounded"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            for position, name in enumerate(node.input):
                if name == tensor:
                    node.input[position] = "the_rounded"
    session = make_session(model, threads=1, config_entries={"session.disable_quant_qdq": "1"})
    name, output = model.graph.input[0].name, model.graph.output[0].name
    rows = [run(session, [output], {name: image})[0] for image in single_images(case)]
    return np.stack([row.reshape(row.shape[0], -1)[0] for row in rows])


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_tail_makes_the_scores_of_the_whole_network(name: str) -> None:
    case = zoo_case(name)
    tensors = made_tensors(case)
    found = each_tail(
        case.prepared,
        tensors,
        single_images(case),
        lambda tail: tail.scores(coarse(case, tail.tensor)),
        threads=1,
    )
    assert list(found) == sorted(found, key=in_graph_order(case).index)
    for tensor, scores in found.items():
        wanted = whole_scores(case, tensor, coarse(case, tensor))
        spread = float(np.abs(wanted).max())
        # Both add up the same products, in kernels that may be fused otherwise.
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4 * spread, err_msg=tensor)


def in_graph_order(case: Case) -> list[str]:
    return [name for node in case.prepared.graph.node for name in node.output]


def test_results_are_the_same_bits_with_one_and_two_threads() -> None:
    case = zoo_case("inverted_residual")

    def bits(tail: Tail) -> bytes:
        return tail.scores(coarse(case, tail.tensor)).tobytes()

    one, two = (
        each_tail(case.prepared, made_tensors(case), single_images(case), bits, threads=threads)
        for threads in (1, 2)
    )
    assert one == two and len(one) > 4


def test_a_tensor_that_nothing_depends_on_is_left_out() -> None:
    net = Net(seed=3)
    x = net.relu(net.conv("image", 3, 6, output="used"))
    net.conv(x, 6, 6, output="unused")
    net.head(x, 6)
    case = make_case(net.model())
    # `prepare` drops what is dead, so it is the model as it was made
    found = each_tail(
        case.model, ["used", "unused"], single_images(case), lambda tail: tail.tensor, threads=1
    )
    assert found == {"used": "used"}


def test_the_scale_of_a_tail_can_be_changed() -> None:
    case = zoo_case("inverted_residual")
    tensor = case.inventory.quantizable[0].output

    def changes(tail: Tail) -> list[float]:
        entry = case.ranges.scale(tail.tensor, "minmax")
        fine, *coarser = (
            tail.scores(replace(entry, scale=entry.scale * times, zero_point=0)) for times in (1, 4, 16)
        )
        return [float(np.abs(one - fine).max()) for one in coarser]

    (found,) = each_tail(case.prepared, [tensor], single_images(case), changes, threads=1).values()
    assert 0.0 < found[0] < found[1]


def test_signed_scales_saturate_where_int8_does() -> None:
    case = zoo_case("inverted_residual")
    tensor = case.inventory.quantizable[0].output
    ways = (ActivationScale(0.01, 0, signed=True), ActivationScale(0.01, 128), ActivationScale(0.01, 0))
    found = each_tail(
        case.prepared,
        [tensor],
        single_images(case),
        lambda tail: [tail.scores(one) for one in ways],
        threads=1,
    )
    signed, shifted, unsigned = found[tensor]
    np.testing.assert_array_equal(signed, shifted)
    assert np.abs(signed - unsigned).max() > 0.0
