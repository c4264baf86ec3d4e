"""Models that are well-formed, and still not what was asked for: values, shapes, types, names, operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.cli import main
from quantize.loading.quantized import what_is_quantized
from quantize.session import make_session, outputs
from tests.quantize.net import EXTENT, Net
from tests.robustness.model_commands import (
    CLASSIFYING,
    COMMANDS,
    Bench,
    bench,
    materials,
    pixels,
    refused,
    row,
    small_classifier,
    tuned,
)

__all__ = ["bench", "materials"]  # fixtures


def with_value(name: str, position: int, value: float, kind: Any = np.float32) -> onnx.ModelProto:
    model = small_classifier()
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(weight).astype(kind)
    values.reshape(-1)[position] = value
    weight.CopyFrom(numpy_helper.from_array(values, name))
    return model


def constant_nan() -> onnx.ModelProto:
    net = Net(13)
    nothing = numpy_helper.from_array(np.full((1, 6, 1, 1), np.nan, np.float32))
    x = net.node("Add", net.conv("image", 3, 6), net.node("Constant", value=nothing, output="bad"))
    net.head(x, 6)
    return net.model()


@pytest.mark.parametrize(
    ("made", "phrase"),
    [
        pytest.param(
            lambda: with_value("c1", 7, np.nan),
            "initializer 'c1' holds NaN in 1 of 162 places",
            marks=row("NaN in a weight"),
        ),
        pytest.param(
            lambda: with_value("c2", 0, np.nan),
            "initializer 'c2' holds NaN in 1 of 6 places",
            marks=row("NaN in a bias"),
        ),
        pytest.param(constant_nan, "constant 'bad' holds NaN", marks=row("NaN in a Constant operator")),
        pytest.param(
            lambda: with_value("c1", 3, np.inf),
            "initializer 'c1' holds infinity in 1 of 162 places, read by Conv 'conv_3'",
            marks=row("Infinity in a weight"),
        ),
        pytest.param(
            lambda: with_value("c2", 5, -np.inf),
            "initializer 'c2' holds infinity",
            marks=row("Infinity in a bias"),
        ),
    ],
)
def test_weights_that_are_no_numbers(
    made: Callable[[], onnx.ModelProto], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(made())
    refused(bench, capsys, phrase)


@row("Infinity where it means no bound: in a Clip", "it is accepted, and computes as it should", times=1)
def test_infinity_as_a_bound(bench: Bench) -> None:
    net = Net(13)
    net.head(net.clip(net.conv("image", 3, 6), 0.0, np.inf), 6)
    bench.put(net.model())
    assert main(COMMANDS["predict"](bench.model, bench)) == 0


def scaled_weights(factor: float) -> onnx.ModelProto:
    """A second convolution whose weights are so small, beside one that is as it should be."""
    net = Net(13)
    x = net.relu(net.conv("image", 3, 6))
    weights = net.random.normal(0, 0.3, (6, 6, 3, 3)) * factor
    tiny = net.node("Conv", x, net.constant(weights, name="tiny"), pads=[1, 1, 1, 1])
    x = net.node("Add", net.conv(x, 6, 6), tiny)
    net.head(net.relu(x), 6)
    return net.model()


AGREES = "the model is quantized, and its int8 files agree with it"


@pytest.mark.parametrize(
    "factor",
    [
        pytest.param(1e-42, marks=row("Weights that are all denormal", AGREES, times=1)),
        pytest.param(0.0, marks=row("Weights that are all zero", AGREES, times=1)),
        pytest.param(1e-36, marks=row("Weights near the smallest normal number", AGREES, times=1)),
    ],
)
def test_weights_that_are_hardly_there(
    factor: float, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(scaled_weights(factor))
    tuned(bench, capsys, "--no_html")
    expected = outputs(make_session(bench.model, threads=1), pixels())
    for path in bench.out.glob("*.onnx"):
        found = outputs(make_session(path, threads=1), pixels())
        # Without refinement, on so small a net: each of four roundings to 8 bits is up to 1/512 of a range.
        assert np.max(np.abs(found - expected)) < 0.1 * np.max(np.abs(expected)), path


def classifier(**options: Any) -> onnx.ModelProto:
    net = Net(13)
    net.head(net.relu(net.conv("image", 3, 6)), 6)
    return net.model(**options)


def no_input() -> onnx.ModelProto:
    model = classifier()
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((1, 3, EXTENT, EXTENT), np.float32), "image")
    )
    del model.graph.input[:]
    return model


def two_inputs() -> onnx.ModelProto:
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 3, 4, 4]))
    return model


def integer_input() -> onnx.ModelProto:
    model = classifier()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["floats"], "cast", to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    return model


def number_input() -> onnx.ModelProto:
    model = classifier()
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    return model


def unknown_input() -> onnx.ModelProto:
    model = classifier()
    model.graph.input[0].type.tensor_type.elem_type = 127
    return model


def no_output() -> onnx.ModelProto:
    model = classifier()
    del model.graph.output[:]
    return model


@pytest.mark.parametrize(
    ("made", "phrase"),
    [
        pytest.param(no_input, "found none", marks=row("A model without an input")),
        pytest.param(two_inputs, "found 'image', 'mask'", marks=row("A model with two inputs")),
        pytest.param(integer_input, "'image' is UINT8", marks=row("An integer input")),
        pytest.param(unknown_input, "is type 127", marks=row("An input of an unknown element type")),
        pytest.param(
            lambda: classifier(shape=["n", 3]), "has rank 2", marks=row("An input that is no image")
        ),
        pytest.param(number_input, "has rank 0", marks=row("An input that is a number")),
        pytest.param(
            lambda: classifier(shape=[1, 77, 64, 768]),
            "no axis is the channels of an image",
            marks=row("An input of rank 4 that is no image"),
        ),
        pytest.param(
            lambda: classifier(shape=[1, 3, 1 << 31, 1 << 31]),
            "would take",
            marks=row("An input of 2^31 x 2^31 pixels"),
        ),
        pytest.param(
            lambda: classifier(shape=[1 << 40, 3, EXTENT, EXTENT]),
            "would take",
            marks=row("A batch size of 2^40"),
        ),
        pytest.param(
            lambda: classifier(shape=["n", 3, 0, 0]),
            "having an extent of 0",
            marks=row("An input of 0 x 0 pixels"),
        ),
    ],
)
def test_inputs(
    made: Callable[[], onnx.ModelProto], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(made())
    refused(bench, capsys, phrase, commands=CLASSIFYING)


@row("A model without an output", times=1)
def test_no_output(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put(no_output())
    refused(bench, capsys, "utput", commands=CLASSIFYING)


@row(
    "An input of negative extents, as some exporters write open ones",
    "they count as open, and the model works",
    times=1,
)
def test_negative_extents(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put(classifier(shape=[-1, 3, -1, -1]))
    assert main(COMMANDS["predict"](bench.model, bench)) == 0, capsys.readouterr().err


def integer_convolution() -> onnx.ModelProto:
    """As dynamic quantization writes it."""
    net = Net(13)
    net.node("DynamicQuantizeLinear", "image", outputs=3, output="q")
    weights = net.constant(np.ones((6, 3, 3, 3)), np.uint8)
    x = net.node("ConvInteger", "q", weights, "q_2", pads=[1, 1, 1, 1])
    net.head(net.node("Cast", x, to=TensorProto.FLOAT), 6)
    return net.model()


def small_weights() -> onnx.ModelProto:
    """Weights stored as int8, made floats again by a Cast and a Mul."""
    net = Net(13)
    stored = net.constant(np.arange(162).reshape(6, 3, 3, 3) - 80, np.int8)
    weights = net.node("Mul", net.node("Cast", stored, to=TensorProto.FLOAT), net.constant(0.01))
    net.head(net.node("Conv", "image", weights, pads=[1, 1, 1, 1]), 6)
    return net.model()


def hidden_in_a_function() -> onnx.ModelProto:
    model = small_classifier()
    quantize = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "inside")
    back = helper.make_node("DequantizeLinear", ["q", "s"], ["y"])
    scale = helper.make_node("Constant", [], ["s"], value_float=0.1)
    opsets = [helper.make_opsetid("", 13)]
    model.functions.append(
        helper.make_function("mine", "Fake", ["x"], ["y"], [scale, quantize, back], opsets)
    )
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.insert(0, helper.make_node("Fake", ["image"], ["rounded"], "faked", domain="mine"))
    model.graph.node[1].input[0] = "rounded"
    return model


def zoo_qdq() -> onnx.ModelProto:
    from tests.quantize.models import zoo_case

    return zoo_case("inverted_residual").qdq()


def zoo_qoperator() -> onnx.ModelProto:
    from quantize.export import to_qoperator

    return to_qoperator(zoo_qdq())


@pytest.mark.parametrize(
    ("made", "phrases"),
    [
        pytest.param(
            zoo_qdq, ["operator ", "DequantizeLinear", "in all "], marks=row("A QDQ model", times=2)
        ),
        pytest.param(
            zoo_qoperator, ["operator ", "QLinearConv", "in all "], marks=row("A QOperator model", times=2)
        ),
        pytest.param(
            integer_convolution,
            ["operator DynamicQuantizeLinear", "1 ConvInteger"],
            marks=row("A model of ConvInteger", times=2),
        ),
        pytest.param(
            small_weights,
            ["initializer 'c1' of type INT8", "[6, 3, 3, 3]"],
            marks=row("A model whose weights are stored as int8", times=2),
        ),
        pytest.param(
            hidden_in_a_function,
            ["operator QuantizeLinear 'inside'"],
            marks=row("Quantization inside a function of the model", times=2),
        ),
    ],
)
def test_models_that_are_quantized_already(
    made: Callable[[], onnx.ModelProto],
    phrases: list[str],
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench.put(made())
    refused(bench, capsys, "is quantized already", *phrases, commands=("tune", "sensitivity"))


def test_a_float_model_is_not_called_quantized() -> None:
    assert what_is_quantized(small_classifier()) is None
