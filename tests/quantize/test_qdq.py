"""The QDQ writer, on every pattern of the zoo: what it writes is valid, right, and runs as planned."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quantize.errors import EngineError
from quantize.export import to_qoperator
from quantize.graph import GraphIndex
from quantize.model import serialize
from quantize.operators import Operator
from quantize.qdq import Plan, write_qdq
from quantize.scales import ActivationScale
from quantize.session import make_session, outputs
from quantize.target import PORTABLE
from tests.quantize.models import ZOO, Case, Net, make_case, random_network, zoo_case

# Integer kernels by the operator that they stand for; what is missing is QLinear<operator>.
KERNELS = {
    "Conv": ("QLinearConv",),
    "Gemm": ("QGemm",),
    "MatMul": ("QLinearMatMul", "MatMulIntegerToFloat"),
}
KINDS = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Sigmoid", "LeakyRelu")
KINDS += ("AveragePool", "GlobalAveragePool")


def kernels_that_run(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operator type -> how many integer kernels ONNX Runtime's optimized graph has for it."""
    path = folder / "optimized.onnx"
    make_session(model, threads=1, optimization="extended", optimized_path=path)
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    return Counter(
        {kind: sum(found[name] for name in KERNELS.get(kind, (f"QLinear{kind}",))) for kind in KINDS}
    )


def planned(case: Case, chosen: list[str]) -> Counter[str]:
    by_name = case.inventory.by_name()
    found = Counter(by_name[name].op_type for name in chosen)
    return Counter({kind: found[kind] for kind in KINDS})


def subsets(case: Case, count: int) -> list[list[str]]:
    """All operators, none, and seeded random choices, each twice: a choice and what it leaves."""
    chance = random.Random(20190113)
    found = [case.operators, []]
    for _ in range(count):
        chosen = [name for name in case.operators if chance.random() < 0.5]
        found += [chosen, [name for name in case.operators if name not in chosen]]
    return found


def check(case: Case, chosen: list[str], folder: Path) -> None:
    """What has to hold for any plan."""
    qdq = case.qdq(chosen)
    qoperator = to_qoperator(qdq)
    for model in (qdq, qoperator):
        onnx.checker.check_model(model)
        assert kernels_that_run(model, folder) == planned(case, chosen)
    logits = {
        kind: outputs(make_session(model, threads=1), case.images)
        for kind, model in {"qdq": qdq, "qoperator": qoperator, "fp32": case.prepared}.items()
    }
    np.testing.assert_array_equal(logits["qdq"], logits["qoperator"])
    # At most a dozen layers, each rounded to 1/128 (weights) and 1/255 (activations) of its range: a few per
    # cent of the scores' range, where a wrong scale, axis or zero point changes all of it.
    error = np.abs(logits["qdq"] - logits["fp32"]).max() / np.ptp(logits["fp32"])
    assert error < 0.15


@pytest.mark.parametrize("name", ZOO)
def test_any_choice_of_operators_runs_as_planned(name: str, tmp_path: Path) -> None:
    case = zoo_case(name)
    for chosen in subsets(case, 3):
        check(case, chosen, tmp_path)


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 15, 17, 18, 21, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize("name", ZOO)
def test_any_opset(name: str, opset: int, tmp_path: Path) -> None:
    case = zoo_case(name, opset)
    check(case, case.operators, tmp_path)
    for chosen in subsets(case, 1)[2:]:
        check(case, chosen, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_networks_put_together_by_chance(seed: int, tmp_path: Path) -> None:
    case = make_case(random_network(seed))
    for chosen in subsets(case, 2):
        check(case, chosen, tmp_path)


@pytest.mark.parametrize("name", ZOO)
def test_the_file_means_what_the_runtime_computes(name: str) -> None:
    """ONNX's own evaluator, which fuses nothing, gives the same scores but for single steps of rounding."""
    case = zoo_case(name, 21)  # the evaluator has no DequantizeLinear of opset 13
    qdq = case.qdq()
    reference = ReferenceEvaluator(qdq).run(None, {case.signature.input_name: case.images})[0]
    scores = outputs(make_session(qdq, threads=1), case.images)
    reference = np.asarray(reference).reshape(scores.shape)
    # Float and integer arithmetic round half-way cases differently: one step in some positions, which the
    # layers behind average. A step is 1/255 of a tensor's range.
    assert np.abs(scores - reference).max() <= 4 / 255 * np.ptp(reference)
    assert np.mean(np.abs(scores - reference)) <= 1 / 255 * np.ptp(reference)


@pytest.mark.parametrize("name", ["inverted_residual", "gemm_varieties", "bare_matmul_head", "fire_module"])
def test_one_scale_for_all_channels(name: str, tmp_path: Path) -> None:
    case = zoo_case(name)
    qdq = case.qdq(per_channel=False)
    assert kernels_that_run(qdq, tmp_path) == planned(case, case.operators)
    scores = [outputs(make_session(model, threads=1), case.images) for model in (qdq, to_qoperator(qdq))]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert all(
        numpy_helper.to_array(tensor).size == 1 for tensor in qdq.graph.initializer if "scale" in tensor.name
    )


@pytest.mark.parametrize("name", ["inverted_residual", "name_collisions", "squeeze_and_excite"])
def test_same_plan_same_bytes(name: str) -> None:
    case = zoo_case(name)
    before = case.prepared.SerializeToString(deterministic=True)
    first, second = (case.qdq(case.operators[1:]) for _ in range(2))
    assert serialize(first) == serialize(second)
    assert serialize(to_qoperator(first)) == serialize(to_qoperator(second))
    assert case.prepared.SerializeToString(deterministic=True) == before


def test_every_name_is_used_once() -> None:
    model = zoo_case("name_collisions").qdq()
    nodes = [node.name for node in model.graph.node]
    tensors = [name for node in model.graph.node for name in node.output]
    tensors += [tensor.name for tensor in model.graph.initializer]
    assert len(set(nodes)) == len(nodes)
    assert len(set(tensors)) == len(tensors)


@pytest.mark.parametrize("name", ["inverted_residual", "matmul_head", "bare_matmul_head", "gemm_varieties"])
def test_scores_of_a_matrix_product_are_not_quantized(name: str) -> None:
    for model in (zoo_case(name).qdq(), to_qoperator(zoo_case(name).qdq())):
        last = GraphIndex(model.graph).producer["scores"]
        assert last.op_type in {"Gemm", "MatMul", "QGemm", "MatMulIntegerToFloat"}


def test_add_is_an_integer_in_both_formats() -> None:
    qdq = zoo_case("inverted_residual").qdq()
    index = GraphIndex(qdq.graph)
    (add,) = (node for node in qdq.graph.node if node.op_type == "Add")
    assert {index.producer[name].op_type for name in add.input} == {"DequantizeLinear"}
    assert [reader.op_type for reader in index.readers(add.output[0])] == ["QuantizeLinear"]
    assert "QLinearAdd" in {node.op_type for node in to_qoperator(qdq).graph.node}


def test_a_scale_of_one_keeps_its_zero_point() -> None:
    """The engine's own writer takes a scale of exactly 1 for a degenerate one."""
    case = zoo_case("pre_activation_read_twice")
    operator = case.inventory.quantizable[0]
    scales = dict(case.plan().scales) | {operator.output: ActivationScale(1.0, 100)}
    qdq = write_qdq(case.prepared, case.inventory, Plan({operator.name: True}, scales), PORTABLE)
    index = GraphIndex(qdq.graph)
    assert index.array(f"{operator.output}_scale") == np.float32(1.0)
    assert index.array(f"{operator.output}_zero_point") == np.uint8(100)


def test_a_scale_never_reaches_beyond_the_clip_it_stands_for() -> None:
    """A tensor that was zero on all images has scale 1, which would let 255 through a ReLU6."""
    net = Net()
    x = net.clip(net.node("Conv", "image", net.weight(6, 3, 1, 1), net.constant(np.full(6, -50.0))))
    net.head(net.relu(net.conv(x, 6, 6)), 6)
    case = make_case(net.model())
    (conv,) = (operator for operator in case.inventory.quantizable if operator.inputs == ("image",))
    assert case.plan().scales[conv.output] == ActivationScale(1.0, 0)
    scale = GraphIndex(case.qdq().graph).array(f"{conv.output}_scale")
    assert scale == pytest.approx(6 / 255)


def test_a_relu_is_not_absorbed_into_negative_numbers() -> None:
    case = zoo_case("relu_chain_with_softmax")
    operator = case.inventory.quantizable[0]
    scales = dict(case.plan().scales) | {operator.output: ActivationScale(0.02, 128)}
    plan = Plan(dict.fromkeys(case.operators, True), scales)
    index = GraphIndex(write_qdq(case.prepared, case.inventory, plan, PORTABLE).graph)
    assert index.array(f"{operator.output}_zero_point") == 0
    assert index.array(f"{operator.output}_scale") == pytest.approx(0.02 * 127 / 255)


@pytest.mark.parametrize("behind_relu", [False, True])
def test_what_a_branch_reads_stays_there(behind_relu: bool, tmp_path: Path) -> None:
    """An If reads a result and a weight from outside; neither may vanish, and the result stays float."""
    net = Net(13)
    made = net.conv("image", 3, 6)
    read = net.relu(made) if behind_relu else made
    kept = net.constant(2.0, name="kept")
    flag = net.node("Greater", net.node("ReduceMax", "image", keepdims=0), net.constant(0.0))
    then_branch, else_branch = (
        helper.make_graph(
            [helper.make_node(kind, [read, kept], [f"{kind}_out"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}_out", onnx.TensorProto.FLOAT, None)],
        )
        for kind in ("Add", "Mul")
    )
    other = net.node("If", flag, then_branch=then_branch, else_branch=else_branch)
    x = net.conv(read if behind_relu else net.relu(read), 6, 6)
    net.head(net.node("Add", x, net.relu(net.conv(other, 6, 6))), 6)
    case = make_case(net.model())
    reasons = {operator.op_type: operator.reason for operator in case.inventory.floating}
    assert ("Conv" in reasons) is not behind_relu
    assert case.inventory.quantizable[0].activation is None
    for chosen in subsets(case, 2):
        check(case, chosen, tmp_path)


def test_missing_scale_and_unknown_operator_are_named() -> None:
    case = zoo_case("inverted_residual")
    first = case.operators[0]
    with pytest.raises(EngineError, match="no range was measured for tensor"):
        write_qdq(case.prepared, case.inventory, Plan({first: True}, {}), PORTABLE)
    with pytest.raises(EngineError, match="'nobody' cannot be an integer"):
        write_qdq(case.prepared, case.inventory, Plan({"nobody": True}, {}), PORTABLE)


def test_bits_of_weights_follow_the_target() -> None:
    case = zoo_case("inverted_residual")
    qdq = case.qdq()
    index = GraphIndex(qdq.graph)
    for operator in case.inventory.quantizable:
        integers = index.array(f"{operator.name}_weight_quantized")
        if operator.weighted and integers is not None:
            assert np.abs(integers.astype(int)).max() == (127 if operator.depthwise else 64)
    assert any(operator.depthwise for operator in case.inventory.quantizable)


def test_saturation_stays_within_one_step_of_a_clip(tmp_path: Path) -> None:
    """An absorbed Clip to [-1, 2] lets nothing out but for the rounding of its ends."""
    net = Net()
    x = net.clip(net.conv("image", 3, 6), -1.0, 2.0)
    net.node("GlobalAveragePool", net.conv(x, 6, 5, 1), output="scores")
    case = make_case(net.model(output_shape=["n", 5, 1, 1]))
    operator: Operator = case.inventory.quantizable[0]
    assert operator.activation is not None
    entry = case.plan().scales[operator.output]
    assert entry.bounds == pytest.approx((-1.0, 2.0), abs=entry.scale)
    check(case, case.operators, tmp_path)


def test_fixed_batch_and_many_classes(tmp_path: Path) -> None:
    net = Net()
    x = net.relu(net.conv("image", 3, 6))
    net.head(x, 6, classes=1001)
    case = make_case(net.model(batch=4, classes=1001))
    assert (case.signature.batch, case.signature.classes) == (4, 1001)
    check(case, case.operators, tmp_path)
