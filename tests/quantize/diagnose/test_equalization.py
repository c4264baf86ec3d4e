"""Factors of equalized channels, from weights alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantize.diagnose.equalization import channel_factors
from quantize.diagnose.pairing import pair_tensors
from quantize.diagnose.signal import measure_signal
from quantize.export import to_qoperator
from tests.quantize.models import Case, make_case
from tests.quantize.net import Net


def network() -> onnx.ModelProto:
    """Dense, depthwise, grouped and dense convolutions in a chain, each with a ReLU."""
    net = Net(13, seed=5)
    x = net.relu(net.conv("image", 3, 6))
    x = net.relu(net.conv(x, 6, 6, group=6))
    x = net.relu(net.conv(x, 6, 8, group=2))
    net.head(net.relu(net.conv(x, 8, 6)), 6)
    return net.model()


def equalized(case: Case, factors: list[np.ndarray[Any, Any]]) -> onnx.ModelProto:
    """The prepared model with the outputs of its first convolutions multiplied, and their readers divided."""
    made = onnx.ModelProto()
    made.CopyFrom(case.prepared)
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]

    def change(name: str, by: np.ndarray[Any, Any]) -> None:
        value = (numpy_helper.to_array(constants[name]) * by).astype(np.float32)
        constants[name].CopyFrom(numpy_helper.from_array(value, name))

    for number, factor in enumerate(factors):
        maker, reader = convolutions[number], convolutions[number + 1]
        change(maker.input[1], factor.reshape(-1, 1, 1, 1))
        if len(maker.input) > 2:
            change(maker.input[2], factor)
        shape = numpy_helper.to_array(constants[reader.input[1]]).shape
        groups = len(factor) // shape[1]
        rows = factor.reshape(groups, shape[1])[np.arange(shape[0]) * groups // shape[0]]
        change(reader.input[1], 1.0 / rows.reshape(*rows.shape, 1, 1))
    return made


def test_nothing_is_found_where_nothing_was_equalized() -> None:
    case = make_case(network())
    assert channel_factors(case.prepared, case.inventory, case.qdq()) == {}
    assert channel_factors(case.prepared, case.inventory, case.qdq([])) == {}


def test_factors_are_found_through_every_kind_of_convolution() -> None:
    case = make_case(network())
    random = np.random.default_rng(3)
    factors = [random.uniform(0.4, 4.0, count).astype(np.float32) for count in (6, 6, 8)]
    other = make_case(equalized(case, factors))
    qdq = other.qdq()
    found = channel_factors(case.prepared, case.inventory, qdq)
    outputs = [one.output for one in case.inventory.quantizable if one.op_type == "Conv"]
    assert list(found) == outputs[:3]
    for tensor, factor in zip(found, factors, strict=True):
        # Seven and eight bits leave the slope of a channel within some per cent, whose square is the noise.
        assert found[tensor] == pytest.approx(factor, rel=0.03)

    # With them an equalized model is as close to fp32 as it is to the equalized fp32 model.
    images = [case.images[k : k + 1] for k in range(4)]
    against = {}
    for name, model, known in (("fp32", case, found), ("equalized", other, {})):
        pairs = pair_tensors(model.prepared, model.inventory, qdq)
        signals = measure_signal(model.prepared, to_qoperator(qdq), pairs, images, factors=known, threads=1)
        against[name] = [one.sqnr_db for one in signals]
    assert against["fp32"] == pytest.approx(against["equalized"], abs=1.5)
