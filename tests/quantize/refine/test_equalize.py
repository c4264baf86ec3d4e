"""Channels of one size: the same function, and a finer one in 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantize.refine.equalize import equalize, find_channels
from quantize.refine.network import Draft
from quantize.refine.observe import Watched, observe
from quantize.session import make_session, outputs
from quantize.target import TARGETS
from tests.quantize.models import Case, make_case, zoo_case
from tests.quantize.net import Net
from tests.quantize.refine.conftest import MakeRefiner, network_of, rules_of


def unbalanced(*, activation: str = "clip", readers: str = "depthwise") -> Case:
    """A network whose first tensor has channels from 0.01 to 5, all of which matter to what reads them."""
    net = Net(13, seed=5)
    sizes = np.geomspace(0.01, 4, 8)
    weights = net.random.normal(0, 0.2, (8, 3, 1, 1)) * sizes[:, None, None, None]
    x = net.node("Conv", "image", net.constant(weights), net.constant(np.zeros(8)))
    if activation:
        x = getattr(net, activation)(x)
    shape = (8, 8, 3, 3) if readers == "dense" else (8, 1, 3, 3)
    undone = sizes[None, :, None, None] if readers == "dense" else sizes[:, None, None, None]
    reading = net.constant(net.random.normal(0, 1, shape) / undone)
    bias = net.constant(net.random.normal(0, 0.3, 8))
    y = net.node("Conv", x, reading, bias, pads=[1] * 4, group=1 if readers == "dense" else 8)
    if readers == "read by Add":
        y = net.node("Add", y, x)
    net.head(net.relu(y), 8)
    return make_case(net.model())


def drafted(case: Case) -> Draft:
    operators = dict.fromkeys(case.operators, True)
    plan = case.plan()
    return Draft(operators, plan.scales)


def test_what_can_be_equalized() -> None:
    depthwise, dense, added = (unbalanced(readers=r) for r in ("depthwise", "dense", "read by Add"))
    (first, *_) = find_channels(network_of(depthwise), dict.fromkeys(depthwise.operators, True))
    assert first.free
    (first, *_) = find_channels(network_of(dense), dict.fromkeys(dense.operators, True))
    assert not first.free
    assert find_channels(network_of(added), dict.fromkeys(added.operators, True)) == []


def test_what_an_fp32_operator_reads_is_left_alone() -> None:
    case = unbalanced()
    first, reader, *_ = [o.name for o in case.inventory.quantizable if o.weighted]
    for left in (first, reader):
        chosen = {name: True for name in case.operators if name != left}
        tensors = {channel.tensor for channel in find_channels(network_of(case), chosen)}
        assert case.inventory.by_name()[first].output not in tensors


def test_a_clip_that_stays_forbids_it() -> None:
    """With symmetric int8 no saturation stands for the Clip, which would cut scaled channels at 6."""
    signed = make_case(unbalanced().model, TARGETS["tensorrt"])
    assert find_channels(network_of(signed), dict.fromkeys(signed.operators, True)) == []
    relu = make_case(unbalanced(activation="relu").model, TARGETS["tensorrt"])
    assert len(find_channels(network_of(relu), dict.fromkeys(relu.operators, True))) == 1


@pytest.mark.parametrize("activation", ["clip", "relu", ""])
@pytest.mark.parametrize("readers", ["depthwise", "dense"])
def test_the_function_stays_the_same(activation: str, readers: str) -> None:
    """In fp32, with the factors multiplied into the weights and the Clip replaced by saturation at `hi`."""
    case = unbalanced(activation=activation, readers=readers)
    network, draft = network_of(case), drafted(case)
    channels = find_channels(network, draft.operators)
    observations = observe(
        case.prepared,
        Watched([], [channel.tensor for channel in channels]),
        [(case.images, None)],
        images=len(case.images),
        threads=1,
        seed=0,
    )
    made = equalize(draft, channels, observations, exponent=0.5)
    assert set(made.factors) == {channel.tensor for channel in channels}
    assert all(np.all(factors >= 1.0) for factors in made.factors.values())
    changed = onnx.ModelProto()
    changed.CopyFrom(case.prepared)
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    for name, (_, geometry) in network.weighted.items():
        weights, bias = network.float_parameters(name, made.factors)
        node = network.nodes[name]
        for tensor, value in ((node.input[1], geometry.unpack(weights)), (node.input[2], bias)):
            constants[tensor].CopyFrom(onnx.numpy_helper.from_array(np.asarray(value), tensor))
    for node in changed.graph.node:
        if node.op_type == "Clip" and node.output[0] in made.factors:
            high = draft.scales[node.output[0]].bounds[1]
            constants[node.input[2]].CopyFrom(
                onnx.numpy_helper.from_array(np.asarray(high, np.float32), node.input[2])
            )
    before, after = (outputs(make_session(m, threads=1), case.images) for m in (case.prepared, changed))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_channel_that_was_small_keeps_a_third_of_the_range(exponent: float) -> None:
    """Other images have channels 400 times as large as those seen; finer steps are not worth losing them."""
    case = unbalanced(readers="dense" if exponent else "depthwise")
    network, draft = network_of(case), drafted(case)
    channels = find_channels(network, draft.operators)[:1]
    tensor = channels[0].tensor
    watched = Watched([], [tensor])
    batches = [(case.images, None)]
    seen = observe(case.prepared, watched, batches, images=len(case.images), threads=1, seed=0)
    factors = equalize(draft, channels, seen, exponent=exponent).factors[tensor]
    assert factors.max() == 3.0


def test_it_pays_where_channels_differ(make_refiner: MakeRefiner) -> None:
    case = unbalanced()
    refiner = make_refiner(case, effort="fast", weights=False, biases=False, gain=False)
    _, report = refiner.refine(dict.fromkeys(case.operators, True), rules_of(case))
    (entry,) = (one for one in report.passes if one.name == "equalize")
    assert entry.status == "applied"
    assert entry.after.kl < 0.5 * entry.before.kl


def test_networks_without_such_tensors_skip_it(make_refiner: MakeRefiner) -> None:
    case = zoo_case("bare_matmul_head")
    _, report = make_refiner(case, effort="fast").refine(dict.fromkeys(case.operators, True), rules_of(case))
    (entry,) = (one for one in report.passes if one.name == "equalize")
    assert entry.status in ("skipped", "applied", "taken back")
    if not find_channels(network_of(case), dict.fromkeys(case.operators, True)):
        assert entry.status == "skipped"
