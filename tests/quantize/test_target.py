"""Every target, on every pattern of the zoo: the model is what its kernels want, and computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

from quantize.export import to_qoperator
from quantize.graph import GraphIndex
from quantize.kernels import declared_coverage
from quantize.portability import EXACT_KERNELS, check_pairs
from quantize.qdq import Plan, write_qdq
from quantize.scales import activation_scale
from quantize.session import make_session, outputs
from quantize.target import PORTABLE, QNN, TARGETS, TENSORRT, WEIGHTED_OPERATORS, Target
from tests.quantize.models import ZOO, Case, Net, make_case, zoo_case

ON_CPU = [target for target in TARGETS.values() if target.on_cpu]
ELSEWHERE = [TENSORRT, QNN]
NAMED = {"ids": lambda value: value.name if isinstance(value, Target) else str(value)}


def chosen_sets(case: Case) -> list[list[str]]:
    """All operators; every second one; the others."""
    return [case.operators, case.operators[::2], case.operators[1::2]]


def scores_of(model: onnx.ModelProto, case: Case) -> np.ndarray:
    # As the target computes, whether or not products saturate on the CPU that runs this.
    entries = {} if case.target.pair_saturation else EXACT_KERNELS
    return outputs(make_session(model, threads=1, config_entries=entries), case.images)


def largest(model: onnx.ModelProto, *, depthwise: bool, case: Case) -> set[int]:
    index = GraphIndex(model.graph)
    found = (
        index.array(f"{operator.name}_weight_quantized")
        for operator in case.inventory.quantizable
        if operator.weighted and operator.depthwise is depthwise
    )
    return {int(np.abs(integers.astype(int)).max()) for integers in found if integers is not None}


@pytest.mark.parametrize("target", TARGETS.values(), **NAMED)
def test_bits_follow_the_target_and_never_this_machine(target: Target) -> None:
    case = zoo_case("inverted_residual", target=target)
    model = case.qdq()
    assert largest(model, depthwise=True, case=case) == {127}
    assert largest(model, depthwise=False, case=case) == {64 if target.pair_saturation else 127}
    assert check_pairs(model).holds is (target.pair_saturation or target.signed_activations)
    assert target.dense_weight_bits == (7 if target.pair_saturation else 8)
    assert not target.exact or target.pair_saturation


@pytest.mark.parametrize("target", ON_CPU, **NAMED)
@pytest.mark.parametrize("name", ["inverted_residual", "fire_module", "squeeze_and_excite"])
def test_both_formats_of_a_cpu_target_are_one_model(name: str, target: Target) -> None:
    case = zoo_case(name, target=target)
    qdq = case.qdq()
    np.testing.assert_array_equal(scores_of(qdq, case), scores_of(to_qoperator(qdq), case))


@pytest.mark.parametrize("target", ELSEWHERE, **NAMED)
@pytest.mark.parametrize("name", ZOO)
def test_emulated_targets_stay_close_to_fp32(name: str, target: Target) -> None:
    case = zoo_case(name, target=target)
    fp32 = scores_of(case.prepared, case)
    for chosen in chosen_sets(case):
        model = case.qdq(chosen)
        onnx.checker.check_model(model)
        # A dozen layers of 1/127 each, mostly averaged out; a wrong sign, axis or Relu changes all of it.
        assert np.abs(scores_of(model, case) - fp32).max() / np.ptp(fp32) < 0.05


@pytest.mark.parametrize("target", ELSEWHERE, **NAMED)
@pytest.mark.parametrize("name", ZOO)
def test_the_file_means_what_the_emulation_computes(name: str, target: Target) -> None:
    case = zoo_case(name, 21, target)
    model = case.qdq()
    with np.errstate(invalid="ignore"):  # dead channels: far beyond the range, and saturated all the same
        (reference,) = ReferenceEvaluator(model).run(None, {case.signature.input_name: case.images})
    scores = scores_of(model, case)
    reference = np.asarray(reference).reshape(scores.shape)
    # Half-way cases round differently in float and integer arithmetic: single steps of 1/127 of a range.
    assert np.abs(scores - reference).max() <= 4 / 127 * np.ptp(reference)
    assert np.mean(np.abs(scores - reference)) <= 1 / 127 * np.ptp(reference)


@pytest.mark.parametrize("name", ZOO)
def test_tensorrt_has_symmetric_int8_and_float_biases(name: str) -> None:
    case = zoo_case(name, target=TENSORRT)
    for chosen in chosen_sets(case):
        graph = case.qdq(chosen).graph
        index = GraphIndex(graph)
        converting = [node for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
        for node in converting:
            zero_point = index.array(node.input[2])
            assert zero_point is not None and zero_point.dtype == np.int8 and not zero_point.any()
        for node in graph.node:
            if node.name in chosen and node.op_type in WEIGHTED_OPERATORS:
                makers = [index.producer[operand].op_type for operand in node.input[:2]]
                assert makers == ["DequantizeLinear", "DequantizeLinear"]
                if len(node.input) > 2 and node.input[2]:
                    assert index.initializers[node.input[2]].data_type == TensorProto.FLOAT
        assert all(tensor.data_type != TensorProto.INT32 for tensor in graph.initializer)


@pytest.mark.parametrize("name", ZOO)
def test_tensorrt_keeps_every_activation(name: str) -> None:
    """A Relu must not be left to saturation: int8 around zero lets negative numbers through."""
    case = zoo_case(name, target=TENSORRT)
    counts = [
        sum(node.op_type in {"Relu", "Clip"} for node in model.graph.node)
        for model in (case.prepared, case.qdq())
    ]
    assert counts[0] == counts[1]


def test_a_relu_on_tensorrt_lets_nothing_negative_through() -> None:
    net = Net()
    net.node("GlobalAveragePool", net.conv(net.relu(net.conv("image", 3, 6)), 6, 5, 1), output="scores")
    case = make_case(net.model(output_shape=["n", 5, 1, 1]), TENSORRT)
    model = case.qdq()
    index = GraphIndex(model.graph)
    (relu,) = (node for node in model.graph.node if node.op_type == "Relu")
    assert index.producer[relu.input[0]].op_type == "Conv"
    (behind,) = index.readers(relu.output[0])
    assert behind.op_type == "QuantizeLinear"
    model.graph.output.append(onnx.ValueInfoProto(name=behind.output[0]))
    evaluated = ReferenceEvaluator(_at_opset_21(model)).run([behind.output[0]], {"image": case.images})[0]
    assert evaluated.dtype == np.int8 and evaluated.min() == 0 and evaluated.max() == 127


def _at_opset_21(model: onnx.ModelProto) -> onnx.ModelProto:
    """The evaluator has no DequantizeLinear of opset 13; its meaning is the same in 21."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.opset_import[0].version = 21
    return copy


def test_folding_an_activation_between_two_readers_is_right_on_tensorrt() -> None:
    """The result of Conv + Clip feeds an integer and a float operator; both see the clipped tensor."""
    net = Net()
    x = net.clip(net.conv("image", 3, 6), -1.0, 2.0)
    net.head(net.node("Add", net.conv(x, 6, 6), net.node("Tanh", x)), 6)
    case = make_case(net.model(), TENSORRT)
    np.testing.assert_allclose(
        scores_of(case.qdq(), case),
        scores_of(case.prepared, case),
        atol=0.1 * np.ptp(scores_of(case.prepared, case)),
    )


@pytest.mark.parametrize("name", ["inverted_residual", "fire_module", "squeeze_and_excite", "gemm_varieties"])
def test_qnn_has_every_operator_between_q_and_dq(name: str) -> None:
    case = zoo_case(name, target=QNN)
    graph = case.qdq().graph
    index = GraphIndex(graph)
    by_name = case.inventory.by_name()
    for node in graph.node:
        if node.name not in by_name:
            continue
        made = [index.producer[operand].op_type for operand in node.input if operand]
        assert set(made) == {"DequantizeLinear"}
        assert {reader.op_type for reader in index.readers(node.output[0])} == {"QuantizeLinear"}
    assert index.producer["scores"].op_type == "DequantizeLinear"  # the scores have 8 bits too


def test_qnn_gives_channels_of_their_own_to_convolutions_only() -> None:
    case = zoo_case("inverted_residual", target=QNN)
    index = GraphIndex(case.qdq().graph)
    for operator in case.inventory.quantizable:
        if operator.weighted:
            scale = index.array(f"{operator.name}_weight_scale")
            assert scale is not None and (scale.size > 1) is (operator.op_type == "Conv")
            bias = index.array(f"{operator.name}_bias_quantized")
            assert bias is None or bias.dtype == np.int32


def test_qnn_quantizes_data_movement_up_to_the_output() -> None:
    net = Net()
    pooled = net.node("GlobalAveragePool", net.relu(net.conv("image", 3, 5)))
    net.node("Flatten", pooled, output="scores")
    case = make_case(net.model(), QNN)
    index = GraphIndex(case.qdq().graph)
    dequantize = index.producer["scores"]
    flatten = index.producer[index.producer[dequantize.input[0]].input[0]]
    assert (dequantize.op_type, flatten.op_type) == ("DequantizeLinear", "Flatten")
    portable = GraphIndex(zoo_case("inverted_residual").qdq().graph)
    assert portable.producer["scores"].op_type == "Gemm"


def test_qnn_widens_ranges_that_are_too_small() -> None:
    case = zoo_case("inverted_residual", target=QNN)
    scale = activation_scale(0.0, 1e-7, least_range=QNN.least_range)
    assert scale.scale == pytest.approx(1e-4 / 255)
    assert case.ranges.make_scale(0.0, 1e-7) == scale
    assert activation_scale(0.0, 1e-7).scale == pytest.approx(1e-7 / 255)


@pytest.mark.parametrize("target", ELSEWHERE, **NAMED)
def test_what_a_file_declares_is_counted_from_the_file(target: Target) -> None:
    case = zoo_case("inverted_residual", target=target)
    weighted = [operator.name for operator in case.inventory.quantizable if operator.weighted]
    everything = declared_coverage(case.qdq().graph)
    assert (everything.integer_weighted, everything.float_weighted_operators) == (len(weighted), ())
    left = declared_coverage(case.qdq([n for n in case.operators if n != weighted[1]]).graph)
    assert left.float_weighted_operators == (weighted[1],)
    assert left.weighted == len(weighted)
    nothing = declared_coverage(case.prepared.graph)
    assert nothing.integer == {} and nothing.weighted == len(weighted)


def test_reasons_name_who_has_no_kernel() -> None:
    net = Net()
    net.head(net.conv(net.node("Sigmoid", net.conv("image", 3, 6)), 6, 6), 6)
    reasons = {
        target.name: {op.op_type: op.reason for op in make_case(net.model(), target).inventory.floating}
        for target in (PORTABLE, TENSORRT)
    }
    assert "Sigmoid" not in reasons["portable"]
    assert reasons["tensorrt"]["Sigmoid"] == "tensorrt has no integer kernel for Sigmoid"


def test_float_bias_is_that_of_the_integers() -> None:
    """To within half a step of the accumulator, which is all that integer kernels resolve."""
    case = zoo_case("inverted_residual", target=TENSORRT)
    index, fp32 = GraphIndex(case.qdq().graph), GraphIndex(case.prepared.graph)
    by_name = {node.name: node for node in case.prepared.graph.node}
    checked = 0
    for operator in case.inventory.quantizable:
        node = by_name[operator.name]
        if operator.weighted and len(node.input) > 2:
            step = case.ranges.scale(operator.inputs[0], "minmax").scale * numpy_helper.to_array(
                index.initializers[f"{operator.name}_weight_scale"]
            )
            bias, wanted = index.array(f"{operator.name}_bias"), fp32.array(node.input[2])
            assert bias is not None and wanted is not None
            assert np.all(np.abs(bias - wanted.reshape(-1)) <= step * 0.51 + 1e-6 * np.abs(bias))
            checked += 1
    assert checked > 2


def test_a_plan_of_another_sign_is_written_as_it_says() -> None:
    """The type of a zero point follows its scale, so that a mixed-up plan cannot be written silently."""
    case = zoo_case("inverted_residual", target=TENSORRT)
    plan = case.plan()
    assert all(scale.signed for scale in plan.scales.values())
    graph = write_qdq(case.prepared, case.inventory, Plan(plan.operators, plan.scales), TENSORRT).graph
    kinds = {t.data_type for t in graph.initializer if t.name.endswith("_zero_point")}
    assert kinds == {TensorProto.INT8}


@pytest.mark.parametrize("name", ["inverted_residual", "fire_module", "gemm_varieties", "bare_matmul_head"])
def test_signed_activations_are_spelled_with_integer_operators_as_well(name: str) -> None:
    """No target asks for it, but the spelling must not care about signs."""
    # Seven bits, because exact kernels, which eight need on some CPUs, know no QGemm of signed activations.
    signed = replace(TENSORRT, integer_bias=True, dense_weight_bits=7, formats=("QOperator", "QDQ"))
    case = zoo_case(name, target=signed)
    qdq = case.qdq()
    qoperator = to_qoperator(qdq)
    kinds = {node.op_type for node in qoperator.graph.node}
    assert kinds & {"QLinearConv", "QGemm", "MatMulIntegerToFloat", "QLinearAdd", "QLinearConcat"}
    onnx.checker.check_model(qoperator)
    np.testing.assert_allclose(
        scores_of(qdq, case), scores_of(qoperator, case), atol=2 / 127 * np.ptp(scores_of(qdq, case))
    )


class _Reader(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self.left = [{"image": images}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def structure(model: onnx.ModelProto) -> dict[str, object]:
    """Name of each operator -> what its operands come from, and what reads its result."""
    index = GraphIndex(model.graph)

    def operand(name: str) -> tuple[str, ...]:
        maker = index.producer.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return ("constant" if name in index.initializers else "float",)
        zero_point = index.array(maker.input[2])
        assert zero_point is not None
        return (str(zero_point.dtype), "constant" if maker.input[0] in index.initializers else "activation")

    return {
        node.name: (
            node.op_type,
            [operand(name) for name in node.input if name],
            {reader.op_type for reader in index.readers(node.output[0])},
        )
        for node in model.graph.node
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}
    }


@pytest.mark.parametrize(
    "name",
    [
        *("inverted_residual", "fire_module", "squeeze_and_excite", "matmul_head", "bare_matmul_head"),
        *("dead_channels", "pre_activation_read_twice", "relu_chain_with_softmax"),
    ],
)
def test_qnn_models_are_built_like_those_of_onnxruntime_itself(name: str, tmp_path: Path) -> None:
    """Same operators, same Q and DQ around them, same types: by ONNX Runtime's own rules for QNN."""
    case = zoo_case(name, target=QNN)
    given, made = tmp_path / "fp32.onnx", tmp_path / "qnn.onnx"
    onnx.save(case.prepared, given)
    rules = get_qnn_qdq_config(given, _Reader(case.images), per_channel=True, weight_type=QuantType.QInt8)
    quantize(str(given), str(made), rules)
    assert structure(case.qdq()) == structure(onnx.load(made))
