"""QDQ models that other tools made: ONNX Runtime's own quantizer, and renamed or foreign ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from quantize.errors import InputError
from quantize.qdq import write_qdq
from quantize.refine.equalize import find_channels
from quantize.refine.given import GIVEN, GivenRanges, read_given
from quantize.refine.layout import pad_stem
from quantize.refine.network import Draft, Network
from quantize.refine.weights import rounded_weights
from quantize.session import make_session, outputs
from quantize.target import TARGETS
from tests.quantize.models import Case, make_case, zoo_case
from tests.quantize.refine.conftest import MakeRefiner, network_of, rules_of


class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package is untyped
    def __init__(self, case: Case) -> None:
        self._images = iter(case.images)

    def get_next(self) -> Any:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def quantized(case: Case, folder: Path, **settings: Any) -> onnx.ModelProto:
    """What ONNX Runtime's quantizer makes of a prepared model."""
    onnx.save(case.prepared, folder / "fp32.onnx")
    settings = {"per_channel": True, "activation_type": QuantType.QUInt8, **settings}
    quantize_static(
        folder / "fp32.onnx", folder / "int8.onnx", Reader(case), quant_format=QuantFormat.QDQ, **settings
    )
    return onnx.load(folder / "int8.onnx")


def scales_of(model: onnx.ModelProto) -> set[float]:
    """Scales of the activations of a QDQ model."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {float(constants[n.input[1]]) for n in model.graph.node if n.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("name", ["inverted_residual", "fire_module", "relu_chain_with_softmax"])
def test_operators_and_scales_are_those_of_the_model(name: str, kind: Any, tmp_path: Path) -> None:
    case = zoo_case(name)
    model = quantized(case, tmp_path, activation_type=kind)
    given = read_given(model, network_of(case), name="int8.onnx")
    weighted = {operator.name for operator in case.inventory.quantizable if operator.weighted}
    assert weighted <= set(given.operators)
    assert {entry.scale for entry in given.scales.values()} <= scales_of(model)
    for tensor, entry in given.scales.items():
        # Whatever the sign of its integers, it spans what the tensor does: its calibrator took the extremes.
        low, high = case.ranges.extremes.bounds(tensor)
        assert entry.bounds[0] <= low + entry.scale
        assert entry.bounds[1] >= high - entry.scale


def test_per_tensor_weights_and_other_names_are_recognised(tmp_path: Path) -> None:
    case = zoo_case("inverted_residual")
    model = quantized(case, tmp_path, per_channel=False)
    named = read_given(model, network_of(case), name="int8.onnx")
    for number, node in enumerate(model.graph.node):
        node.name = f"renamed_{number}"
    renamed = read_given(model, network_of(case), name="int8.onnx")
    assert renamed == named
    assert set(named.operators.values()) == {True}  # one scale per channel costs nothing


def test_its_plan_is_as_good_as_the_model(tmp_path: Path) -> None:
    case = zoo_case("inverted_residual")
    model = quantized(case, tmp_path, reduce_range=True)
    network = network_of(case)
    given = read_given(model, network, name="int8.onnx")
    table = GivenRanges(case.ranges, given.scales)
    tensors = {t for o in case.inventory.quantizable if o.name in given.operators for t in o.tensors}
    plan = case.plan(given.operators)
    scales = {tensor: table.scale(tensor, GIVEN) for tensor in tensors}
    ours = write_qdq(case.prepared, case.inventory, type(plan)(given.operators, scales), case.target)
    fp32, theirs, made = (
        outputs(make_session(m, threads=1), case.images) for m in (case.prepared, model, ours)
    )
    # The same ranges and bits; ours keeps the scores in float.
    assert np.abs(made - fp32).mean() <= 1.1 * np.abs(theirs - fp32).mean()


def test_signed_targets_get_signed_scales(tmp_path: Path) -> None:
    plain = zoo_case("inverted_residual")
    model = quantized(plain, tmp_path)
    signed = make_case(plain.model, TARGETS["tensorrt"])
    given = read_given(model, network_of(signed), name="int8.onnx")
    assert all(entry.signed and entry.zero_point == 0 for entry in given.scales.values())


def test_what_is_no_qdq_model_of_the_network_is_refused(tmp_path: Path) -> None:
    case = zoo_case("inverted_residual")
    with pytest.raises(InputError, match=r"--start_from fp32\.onnx: has no DequantizeLinear"):
        read_given(case.prepared, network_of(case), name="fp32.onnx")
    other = quantized(zoo_case("fire_module"), tmp_path)
    with pytest.raises(InputError, match="none of its operators has the weights"):
        read_given(other, network_of(case), name="other.onnx")


OURS = ["inverted_residual", "fire_module", "tokens", "channels_last_input", "squeeze_and_excite"]


@pytest.mark.parametrize("name", OURS)
def test_all_of_our_own_refined_model_is_recognised(name: str, make_refiner: MakeRefiner) -> None:
    case = zoo_case(name)
    refiner = make_refiner(case, effort="full", scaling=False)
    draft, _ = refiner.refine(dict.fromkeys(case.operators, True), rules_of(case))
    model = write_qdq(case.prepared, case.inventory, draft.plan(), case.target)
    given = read_given(model, network_of(case), name="ours.onnx")
    assert set(given.operators) == set(draft.operators)
    for tensor, entry in given.scales.items():
        assert entry.scale == pytest.approx(draft.scales[tensor].scale, rel=1e-6)
        assert entry.zero_point == draft.scales[tensor].zero_point


@pytest.mark.parametrize("name", OURS)
def test_factors_padding_biases_and_names_do_not_hide_an_operator(name: str) -> None:
    case = zoo_case(name)
    model = with_factors(case)
    for number, node in enumerate(model.graph.node):
        node.name = f"renamed_{number}"
    given = read_given(model, network_of(case), name="ours.onnx")
    assert {o.name for o in case.inventory.quantizable if o.weighted} <= set(given.operators)


@pytest.mark.parametrize("name", OURS)
def test_the_same_architecture_with_other_weights_is_refused(name: str) -> None:
    case = zoo_case(name)
    model = with_factors(case)
    random = np.random.default_rng(5)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.int8 and values.size > 1:
            other = random.permuted(values.reshape(-1)).reshape(values.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(other, tensor.name))
    with pytest.raises(InputError, match="none of its operators has the weights"):
        read_given(model, network_of(case), name="other.onnx")


@pytest.mark.parametrize("operator", ["conv_2", "add_38"])
def test_what_is_float_in_our_own_model_stays_float(operator: str) -> None:
    case = zoo_case("inverted_residual")
    kept = [name for name in case.operators if name != operator]
    assert len(kept) == len(case.operators) - 1
    given = read_given(case.qdq(kept), network_of(case), name="ours.onnx")
    assert set(given.operators) == set(kept)


def with_factors(case: Case) -> onnx.ModelProto:
    """The plain integer model with random positive factors between its operators, and other biases."""
    network = network_of(case)
    random = np.random.default_rng(3)
    plan = case.plan()
    channels = find_channels(network, dict.fromkeys(case.operators, True))
    factors = {
        one.tensor: random.uniform(0.2, 5.0, channel_count(network, one.tensor)).astype(np.float32)
        for one in channels
    }
    draft = rounded_weights(network, Draft(plan.operators, plan.scales, factors))
    parameters = {
        name: replace(one, bias=None if one.bias is None else one.bias + 1000)
        for name, one in draft.parameters.items()
    }
    padded = pad_stem(network, draft)
    draft = (draft if padded is None else padded).but(parameters=parameters)
    return write_qdq(case.prepared, case.inventory, draft.plan(), case.target)


def channel_count(network: Network, tensor: str) -> int:
    return next(g.outputs for o, g in network.weighted.values() if o.output == tensor)
