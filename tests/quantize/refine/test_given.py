"""QDQ models that other tools made: ONNX Runtime's own quantizer, and renamed or foreign ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from quantize.errors import InputError
from quantize.qdq import write_qdq
from quantize.refine.given import GIVEN, GivenRanges, read_given
from quantize.session import make_session, outputs
from quantize.target import TARGETS
from tests.quantize.models import Case, make_case, zoo_case
from tests.quantize.refine.conftest import network_of


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
