"""Preparing a model changes how it is written, and nothing of what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantize import prepare as module
from quantize.errors import EngineError, InputError
from quantize.graph import opset_of
from quantize.model import read_signature
from quantize.prepare import MAXIMUM_OPSET, MINIMUM_OPSET, convert_opset, name_everything, prepare
from quantize.session import make_session, outputs
from tests.quantize.models import CLASSES, EXTENT, ZOO, Net, images, make_case, zoo_case

PATH = Path("net.onnx")
NEWEST = onnx.defs.onnx_opset_version()


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("opset", [7, 13, NEWEST])
@pytest.mark.parametrize("name", sorted(ZOO.keys() - {"name_collisions"}))
def test_computes_the_same(name: str, opset: int) -> None:
    case = zoo_case(name, opset)
    onnx.checker.check_model(case.prepared, full_check=True)
    assert opset_of(case.prepared) == min(max(opset, MINIMUM_OPSET), MAXIMUM_OPSET)
    assert {entry.domain for entry in case.prepared.opset_import} == {""}
    expected = outputs(make_session(case.model, threads=1), case.images)
    found = outputs(make_session(case.prepared, threads=1), case.images)
    # Folding BatchNorm reorders float32 sums: some 1e-6 of the range.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.ptp(expected))


def test_leaves_its_argument_alone() -> None:
    model = ZOO["inverted_residual"](7)
    before = model.SerializeToString(deterministic=True)
    prepare(model, read_signature(model, PATH))
    assert model.SerializeToString(deterministic=True) == before


def test_folds_what_can_be_folded() -> None:
    assert "BatchNormalization" not in kinds(zoo_case("inverted_residual").prepared)
    assert kinds(zoo_case("batch_norms_that_stay").prepared).count("BatchNormalization") == 2
    found = kinds(zoo_case("identities_and_constants").prepared)
    assert not {"Identity", "Dropout", "Constant"} & set(found)


def test_names_every_operator_once() -> None:
    case = zoo_case("name_collisions")
    names = [node.name for node in case.prepared.graph.node]
    assert all(names) and len(set(names)) == len(names)
    unnamed = Net(named=False)
    unnamed.head(unnamed.relu(unnamed.conv("image", 3, 6)), 6)
    graph = unnamed.model().graph
    graph.node[1].name = "Conv_0"  # what the first one would be called
    name_everything(graph)
    names = [node.name for node in graph.node]
    assert names[1] == "Conv_0" and all(names) and len(set(names)) == len(names)


@pytest.mark.parametrize("opset", [7, 13, 18, NEWEST])
def test_spatial_means_become_pools(opset: int) -> None:
    found = kinds(zoo_case("spatial_means", opset).prepared)
    assert found.count("GlobalAveragePool") == 2 and "ReduceMean" not in found
    assert found.count("Flatten") == 1


@pytest.mark.parametrize("axes", [(1, 2), (3,), (1, 2, 3)])
def test_other_means_stay(axes: tuple[int, ...]) -> None:
    net = Net()
    x = net.mean(net.conv("image", 3, 6), axes)
    net.node("Flatten", x, output="scores")
    model = net.model(classes=None)
    module.means_to_global_pools(module.infer_types(model))
    assert "ReduceMean" in kinds(model)


def test_the_name_of_a_pool_is_free() -> None:
    net = Net()
    x = net.conv("image", 3, 6, output="x")
    y = net.node("ReduceMean", x, output="y", axes=[2, 3], keepdims=0)
    net.node("Add", y, net.constant(np.zeros(6), name="y_pooled"), output="scores")
    model = module.infer_types(net.model(classes=6))
    module.means_to_global_pools(model)
    onnx.checker.check_model(model, full_check=True)
    assert {"y_pooled", "y_pooled_2"} <= {name for node in model.graph.node for name in node.input}


def test_open_extents_take_the_size_of_the_images() -> None:
    net = Net()
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    model = net.model(shape=["n", 3, "h", "w"])
    prepared = prepare(model, read_signature(model, PATH), image_shape=(3, EXTENT, EXTENT))
    assert outputs(make_session(prepared, threads=1), images(2)).shape == (2, CLASSES)
    prepare(model, read_signature(model, PATH))


def test_open_extents_of_a_channels_last_model() -> None:
    net = Net()
    net.head(net.relu(net.conv(net.node("Transpose", "image", perm=[0, 3, 1, 2]), 3, 6)), 6)
    model = net.model(shape=["n", "h", "w", "c"])
    signature = read_signature(model, PATH, transposed=False)
    assert kinds(prepare(model, signature))[0] == "Transpose"


def test_images_that_the_model_does_not_take() -> None:
    model = ZOO["inverted_residual"](13)
    with pytest.raises(InputError, match="transforms give images of shape"):
        prepare(model, read_signature(model, PATH), image_shape=(3, 99, 99))


def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("strides", [2, 2]))

    monkeypatch.setattr(module, "means_to_global_pools", break_it)
    model = ZOO["relu_chain_with_softmax"](13)
    with pytest.raises(EngineError, match=r"changed its outputs by .*opset 13 -> 13"):
        prepare(model, read_signature(model, PATH))


def test_a_model_that_computes_nothing_finite_is_named() -> None:
    net = Net()
    x = net.head(net.conv("image", 3, 6), 6, output="logits")
    net.node("Div", x, net.constant(np.zeros(CLASSES)), output="scores")
    model = net.model()
    with pytest.raises(InputError, match=r"\(Div\) is the first to make .* for images of seeded noise"):
        prepare(model, read_signature(model, PATH))


def test_a_changed_shape_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([np.zeros((2, 5)), np.zeros((2, 6))])
    monkeypatch.setattr(module, "outputs", lambda *_, **__: next(answers))
    model = ZOO["relu_chain_with_softmax"](13)
    with pytest.raises(EngineError, match="changed their shape"):
        prepare(model, read_signature(model, PATH))


def test_an_operator_that_cannot_be_converted_is_the_users_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no adapter for Upsample\nwith a trace behind it")

    monkeypatch.setattr(module.version_converter, "convert_version", refuse)
    with pytest.raises(InputError) as caught:
        convert_opset(ZOO["inverted_residual"](7))
    assert str(caught.value) == (
        "--input_model: opset 7 cannot be converted to 13 (no adapter for Upsample); "
        "export the model with an opset from 13 to 27"
    )


def test_what_the_runtime_refuses_is_told_in_one_line() -> None:
    net = Net()
    net.nodes.append(helper.make_node("NoSuchOperator", ["image"], ["scores"], "n", domain="somewhere"))
    model = net.model()
    model.opset_import.append(helper.make_opsetid("somewhere", 1))
    with pytest.raises(EngineError) as caught:
        module.fold(model)
    assert "NoSuchOperator" in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_output_does_not_need_is_dropped() -> None:
    """A dead reader would keep the Relu from being absorbed, and the two formats from being one model."""
    net = Net()
    x = net.conv("image", 3, 6)
    net.node("Sigmoid", net.conv(x, 6, 6))
    net.head(net.conv(net.relu(x), 6, 6), 6)
    case = make_case(net.model())
    assert kinds(case.prepared) == ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert case.inventory.quantizable[0].activation is not None


def test_outputs_that_are_read_stay() -> None:
    net = Net()
    x = net.node("MaxPool", net.conv("image", 3, 6), kernel_shape=[2, 2], outputs=2)
    net.node("Add", x, net.node("Cast", f"{x}_1", to=TensorProto.FLOAT), output="scores")
    graph = net.model().graph
    module.drop_unread_outputs(graph)
    assert len(graph.node[1].output) == 2


def test_training_outputs_of_old_batch_norms() -> None:
    net = Net(7)
    x = net.conv("image", 3, 6)
    parameters = [net.constant(net.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    x = net.node("BatchNormalization", x, *parameters, outputs=5)
    net.head(net.clip(x), 6)
    model = net.model()
    assert "BatchNormalization" not in kinds(prepare(model, read_signature(model, PATH)))


def test_batch_norms_in_training_mode_stay_as_they_are() -> None:
    net = Net(15)
    x = net.batch_norm(net.conv("image", 3, 6), 6)
    node = net.nodes[-1]
    node.output.extend(["mean", "variance"])
    node.attribute.append(helper.make_attribute("training_mode", 1))
    net.head(net.relu(x), 6)
    model = net.model()
    prepared = prepare(model, read_signature(model, PATH))
    assert kinds(prepared).count("BatchNormalization") == 1


def test_the_default_domain_under_its_long_name() -> None:
    model = ZOO["inverted_residual"](13)
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    prepared = prepare(model, read_signature(model, PATH))
    assert {entry.domain for entry in prepared.opset_import} == {""}
    assert {node.domain for node in prepared.graph.node} == {""}
    short = prepare(ZOO["inverted_residual"](13), read_signature(model, PATH))
    assert kinds(prepared) == kinds(short)


def test_types_are_known_afterwards() -> None:
    prepared = zoo_case("computed_reshape").prepared
    types = {value.name: value.type.tensor_type.elem_type for value in prepared.graph.value_info}
    made = {name for node in prepared.graph.node for name in node.output} - {"scores"}
    assert made <= types.keys()
    assert TensorProto.FLOAT in types.values()
