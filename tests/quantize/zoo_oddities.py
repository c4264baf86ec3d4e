"""Small classifiers of what exporters and inventive people write besides."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.quantize.net import CLASSES, EXTENT, Net, zoo


@zoo
def channels_last_input(opset: int = 13) -> onnx.ModelProto:
    """As tf2onnx exports: NHWC in, one Transpose, NCHW inside."""
    net = Net(opset)
    x = net.node("Transpose", "image", perm=[0, 3, 1, 2])
    x = net.clip(net.conv(x, 3, 6))
    x = net.clip(net.conv(x, 6, 6, group=6))
    x = net.node("Transpose", net.conv(x, 6, 6, 1), perm=[0, 2, 3, 1])
    net.gemm(net.mean(x, (1, 2), keepdims=0), 6, CLASSES, output="scores")
    return net.model(shape=["n", EXTENT, EXTENT, 3])


@zoo
def shared_everything(opset: int = 13) -> onnx.ModelProto:
    """A weight and an image for two convolutions, x + x, x · x, Concat of a tensor with itself."""
    net = Net(opset)
    weights, bias = net.weight(6, 3, 3, 3), net.weight(6)
    a = net.relu(net.node("Conv", "image", weights, bias, pads=[1, 1, 1, 1]))
    b = net.node("Conv", "image", weights, bias, pads=[1, 1, 1, 1])
    x = net.relu(net.conv(net.node("Add", a, b), 6, 6))
    x = net.conv(net.node("Add", x, x), 6, 6)
    x = net.relu(net.conv(net.node("Concat", x, x, axis=1), 12, 6, 1))
    x = net.conv(net.node("Mul", x, x), 6, 6, 1)
    net.head(x, 6)
    return net.model()


@zoo
def name_collisions(opset: int = 13) -> onnx.ModelProto:
    """Tensors called as ours would be, nodes of equal name and of none."""
    net = Net(opset)
    x = net.node("Relu", net.conv("image", 3, 6, output="x"), output="x_scale")
    x = net.node("Relu", net.conv(x, 6, 6, output="x_quantized"), output="x_scale_quantized")
    x = net.node("Relu", net.conv(x, 6, 6, output="image_dequantized"), output="x_scale_zero_point")
    net.head(x, 6)
    names = ["conv", "conv", "", "Conv_0", "conv", "Relu_1", "", "conv", "Conv_9"]
    for node, name in zip(net.nodes, names, strict=True):
        node.name = name
    return net.model()


@zoo
def identities_and_constants(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    value = numpy_helper.from_array(net.random.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32))
    weights = net.node("Constant", value=value)
    x = net.node("Conv", net.node("Identity", "image"), weights, pads=[1, 1, 1, 1])
    x = net.node("Identity", net.relu(net.node("Identity", x)))
    net.node("Identity", net.head(net.node("Dropout", x), 6, output="logits"), output="scores")
    return net.model()


@zoo
def moved_around(opset: int = 13) -> onnx.ModelProto:
    """Data movement between weighted operators, in places where a Q or DQ could be pushed through it."""
    net = Net(opset)
    x = net.node("MaxPool", net.conv("image", 3, 6), kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("MaxPool", net.relu(net.conv(x, 6, 6)), kernel_shape=[2, 2])
    x = net.node("Transpose", net.node("Transpose", x, perm=[0, 1, 3, 2]), perm=[0, 1, 3, 2])
    x = net.node("Transpose", net.conv(x, 6, 6), perm=[0, 1, 3, 2])
    x = net.conv(x, 6, 6)
    flat = net.node("Flatten", net.node("MaxPool", x, kernel_shape=[4, 4]))
    net.gemm(flat, 6, CLASSES, output="scores")
    return net.model()


@zoo
def conv_is_the_output(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6))
    net.conv(x, 6, CLASSES, EXTENT, pads=[0, 0, 0, 0], output="scores")
    return net.model(output_shape=["n", CLASSES, 1, 1])


@zoo
def output_is_read_inside(opset: int = 13) -> onnx.ModelProto:
    """The scores also feed a convolution whose result goes nowhere near the output."""
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6))
    first = net.node("GlobalAveragePool", net.conv(x, 6, CLASSES, 1))
    gate = net.node("Sigmoid", net.conv(first, CLASSES, CLASSES, 1))
    net.node("Mul", first, gate, output="scores")
    return net.model(output_shape=["n", CLASSES, 1, 1])


@zoo
def dead_channels(opset: int = 13) -> onnx.ModelProto:
    """A tensor that is zero for every image, channels of zero weights, and biases beyond int32."""
    net = Net(opset)
    dead = net.relu(net.node("Conv", "image", net.weight(6, 3, 3, 3), net.constant(np.full(6, -1e3))))
    live = net.relu(net.conv("image", 3, 6, pads=[0, 0, 0, 0]))
    x = net.node("Concat", dead, live, axis=1)
    weights = net.random.normal(0, 0.1, (6, 12, 3, 3))
    weights[2] = 0.0
    weights[4] *= 1e-12
    bias = net.constant([0.1, -0.2, 0.7, 0.3, 50.0, 0.0])
    x = net.relu(net.node("Conv", x, net.constant(weights), bias))
    net.head(x, 6)
    return net.model()


@zoo
def channel_shuffle(opset: int = 13) -> onnx.ModelProto:
    """ShuffleNet: Split, Concat, and a shuffle by Reshape, Transpose, Reshape."""
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 8))
    sizes = {"split": [4, 4]} if opset < 13 else {}
    more = [net.constant([4, 4], np.int64)] if opset >= 13 else []
    x = net.node("Split", x, *more, outputs=2, axis=1, **sizes)
    x = net.node("Concat", x, net.relu(net.conv(f"{x}_1", 4, 4)), axis=1)
    x = net.node("Reshape", x, net.constant([0, 2, 4, EXTENT, EXTENT], np.int64))
    x = net.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = net.node("Reshape", x, net.constant([0, 8, EXTENT, EXTENT], np.int64))
    net.head(net.relu(net.conv(x, 8, 8, group=2)), 8)
    return net.model()


@zoo
def old_school(opset: int = 13) -> onnx.ModelProto:
    """AlexNet: LRN, grouped convolutions, Dropout with its mask, a flattened map into several Gemms."""
    net = Net(opset)
    x = net.node("LRN", net.relu(net.conv("image", 3, 8)), size=5, alpha=1e-4, beta=0.75)
    x = net.relu(net.conv(net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]), 8, 8, group=2))
    x = net.node("Reshape", x, net.constant([-1, 128], np.int64))
    x = net.node("Dropout", net.relu(net.gemm(x, 128, 16)), outputs=2)
    net.gemm(net.relu(net.gemm(x, 16, 12)), 12, CLASSES, output="scores")
    return net.model()


@zoo
def normalized_inside(opset: int = 13) -> onnx.ModelProto:
    """The network subtracts the mean, divides, pads and crops by itself."""
    net = Net(opset)
    x = net.node("Sub", "image", net.constant(np.full((1, 3, 1, 1), 0.4)))
    x = net.node("Mul", net.node("Div", x, net.constant(0.25)), net.constant(np.ones((1, 3, 1, 1)) * 0.7))
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    padded = {"pads": pads} if opset < 11 else {}
    x = net.node("Pad", x, *([net.constant(pads, np.int64)] if opset >= 11 else []), **padded)
    x = net.relu(net.conv(x, 3, 6, pads=[0, 0, 0, 0]))
    limits = {"starts": [1, 1], "ends": [9, 9], "axes": [2, 3]}
    inputs = [net.constant(value, np.int64) for value in limits.values()] if opset >= 10 else []
    x = net.node("Slice", x, *inputs, **({} if inputs else limits))
    net.head(net.conv(net.conv(x, 6, 6), 6, 6), 6)
    return net.model()


@zoo
def attention(opset: int = 13) -> onnx.ModelProto:
    """One head over the pixels: products of two activations, Softmax, a scale, all of which stay float."""
    net = Net(opset)
    x = net.conv("image", 3, 6, 2, strides=[2, 2], pads=[0, 0, 0, 0])
    x = net.node("Transpose", net.node("Reshape", x, net.constant([0, 6, -1], np.int64)), perm=[0, 2, 1])
    q, k, v = (net.node("MatMul", x, net.weight(6, 6)) for _ in range(3))
    weights = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1]))
    weights = net.node("Softmax", net.node("Mul", weights, net.constant(0.4)), axis=2)
    y = net.node("MatMul", net.node("MatMul", weights, v), net.weight(6, 6))
    x = net.mean(net.node("Add", x, y), (1,), keepdims=0)
    net.gemm(x, 6, CLASSES, output="scores")
    return net.model()


@zoo
def upsampled(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6, strides=[2, 2]))
    x = net.relu(net.node("ConvTranspose", x, net.weight(6, 6, 2, 2), strides=[2, 2]))
    x = net.node("GlobalMaxPool", net.relu(net.conv(x, 6, 8)))
    axes = {"axes": [2, 3]} if opset < 13 else {}
    x = net.node("Squeeze", x, *([net.constant([2, 3], np.int64)] if opset >= 13 else []), **axes)
    net.gemm(x, 8, CLASSES, output="scores")
    return net.model()


@zoo
def rough_pools(opset: int = 13) -> onnx.ModelProto:
    """Pools that round up, that pad like Keras, and a MaxPool that also tells where the maxima are."""
    net = Net(opset)
    x = net.conv("image", 3, 6)
    ceil = {"ceil_mode": 1} if opset >= 10 else {}
    x = net.node("MaxPool", x, outputs=2 if opset >= 8 else 1, kernel_shape=[2, 2])
    indices = net.node("Cast", f"{x}_1", to=TensorProto.FLOAT) if opset >= 8 else x
    x = net.conv(net.node("Add", x, net.node("Tanh", indices)), 6, 6)
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], **ceil)
    x = net.conv(x, 6, 6)
    x = net.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    x = net.conv(x, 6, 6)
    x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], **ceil)
    dilated = {"dilations": [2, 2]} if opset >= 19 else {}
    x = net.node("AveragePool", net.conv(x, 6, 6), kernel_shape=[2, 2], pads=[1, 1, 1, 1], **dilated)
    net.head(net.conv(x, 6, 6), 6)
    return net.model()


@zoo
def hard_swish(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.conv("image", 3, 6)
    if opset >= 14:
        x = net.node("HardSwish", x)
    else:  # as exporters wrote it before
        x = net.node(
            "Mul", x, net.node("Div", net.clip(net.node("Add", x, net.constant(3.0))), net.constant(6.0))
        )
    net.head(net.relu(net.conv(x, 6, 6)), 6)
    return net.model()


@zoo
def gated_scores(opset: int = 13) -> onnx.ModelProto:
    """Adds of a broadcast tensor and of a tensor of another rank, a Clip that keeps zero out."""
    net = Net(opset)
    x = net.conv("image", 3, 6)
    x = net.node("Add", x, net.conv(net.node("GlobalAveragePool", x), 6, 6, 1))
    x = net.conv(net.clip(x, 0.5, 3.0), 6, 6)
    row = net.node("GlobalAveragePool", x)
    flat = net.node("Reshape", net.conv(row, 6, 6, 1), net.constant([-1, 6, 1, 1], np.int64))
    x = net.conv(net.node("Add", flat, x), 6, 6, 1)
    net.head(net.clip(x, -2.0, -0.0), 6)
    return net.model()
