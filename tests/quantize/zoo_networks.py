"""Small classifiers after the networks that are in use, one for each family."""

from __future__ import annotations

import numpy as np
import onnx

from tests.quantize.net import CLASSES, Net, zoo


@zoo
def inverted_residual(opset: int = 13) -> onnx.ModelProto:
    """MobileNetV2 in small: BatchNorm, ReLU6, depthwise, residual Add, Dropout, Gemm."""
    net = Net(opset)
    x = net.clip(net.batch_norm(net.conv("image", 3, 8, bias=False, strides=[2, 2]), 8))
    y = net.clip(net.batch_norm(net.conv(x, 8, 16, 1, bias=False), 16))
    y = net.clip(net.batch_norm(net.conv(y, 16, 16, 3, bias=False, group=16), 16))
    y = net.batch_norm(net.conv(y, 16, 8, 1, bias=False), 8)
    x = net.node("Add", x, y)
    x = net.clip(net.conv(x, 8, 12, 1))
    pooled = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)
    net.gemm(net.node("Dropout", pooled), 12, CLASSES, output="scores")
    return net.model()


@zoo
def relu_chain_with_softmax(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.relu(net.conv(x, 6, 8))
    net.node("Softmax", net.head(x, 8, output="logits"), output="scores", axis=1)
    return net.model()


@zoo
def fire_module(opset: int = 13) -> onnx.ModelProto:
    """SqueezeNet in small; the classifier is a convolution, then Relu, pool, Flatten, Softmax."""
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 8, strides=[2, 2]))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    s = net.relu(net.conv(x, 8, 4, 1))
    x = net.node("Concat", net.relu(net.conv(s, 4, 6, 1)), net.relu(net.conv(s, 4, 6, 3)), axis=1)
    x = net.relu(net.conv(net.node("Dropout", x), 12, CLASSES, 1))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    net.node("Softmax", x, output="scores", axis=1)
    return net.model()


@zoo
def post_activation_residual(opset: int = 13) -> onnx.ModelProto:
    """ResNet: Add, then Relu; a projection on the shortcut."""
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6))
    y = net.conv(net.relu(net.conv(x, 6, 6)), 6, 8, strides=[2, 2])
    x = net.relu(net.node("Add", y, net.conv(x, 6, 8, 1, strides=[2, 2])))
    y = net.conv(net.relu(net.conv(x, 8, 8)), 8, 8)
    net.head(net.relu(net.node("Add", y, x)), 8)
    return net.model()


@zoo
def pre_activation_read_twice(opset: int = 13) -> onnx.ModelProto:
    """The Relu's input is read by others as well, so the Relu cannot be absorbed."""
    net = Net(opset)
    pre = net.conv("image", 3, 6)
    y = net.conv(net.relu(pre), 6, 6)
    net.head(net.node("Add", pre, net.conv(net.relu(y), 6, 6)), 6)
    return net.model()


@zoo
def squeeze_and_excite(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.conv("image", 3, 8)
    x = net.node("Mul", x, net.node("Sigmoid", x))
    gate = net.node("GlobalAveragePool", x)
    gate = net.conv(net.relu(net.conv(gate, 8, 4, 1)), 4, 8, 1)
    x = net.node("Mul", x, net.node("Sigmoid", gate))
    net.head(net.relu(net.conv(x, 8, 8, 1)), 8)
    return net.model()


@zoo
def hard_sigmoid(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.conv("image", 3, 6)
    x = net.node("Mul", x, net.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    net.head(net.relu(net.conv(x, 6, 6)), 6)
    return net.model()


@zoo
def leaky_and_parametric_relu(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.node("LeakyRelu", net.conv("image", 3, 6), alpha=0.1)
    x = net.node("PRelu", net.conv(x, 6, 6), net.constant(np.full((6, 1, 1), 0.2)))
    net.head(net.relu(net.conv(x, 6, 6)), 6)
    return net.model()


@zoo
def pooled_twice(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6))
    x = net.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.relu(net.conv(x, 6, 6))
    x = net.node("AveragePool", x, kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1)
    net.head(net.relu(net.conv(x, 6, 6)), 6)
    return net.model()


@zoo
def conv_varieties(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 8, pads=[0, 1, 2, 1]))
    x = net.relu(net.conv(x, 8, 8, group=2, bias=False))
    x = net.relu(net.conv(x, 8, 8, dilations=[2, 2], pads=[2, 2, 2, 2]))
    x = net.relu(net.conv(x, 8, 16, group=8))
    x = net.conv(x, 16, 6, auto_pad="SAME_UPPER", strides=[2, 2])
    net.head(net.conv(x, 6, 6, 1), 6)
    return net.model()


@zoo
def batch_norms_that_stay(opset: int = 13) -> onnx.ModelProto:
    """BatchNorm before the convolution and after a Concat, as in DenseNet."""
    net = Net(opset)
    x = net.conv("image", 3, 6)
    y = net.conv(net.relu(net.batch_norm(x, 6)), 6, 4)
    x = net.node("Concat", x, y, axis=1)
    net.head(net.relu(net.conv(net.relu(net.batch_norm(x, 10)), 10, 6)), 6)
    return net.model()


@zoo
def spatial_means(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.relu(net.conv("image", 3, 6))
    x = net.node("Add", x, net.conv(net.mean(x), 6, 6, 1))
    net.gemm(net.mean(net.relu(x), (-1, -2), keepdims=0), 6, CLASSES, output="scores")
    return net.model()


@zoo
def computed_reshape(opset: int = 13) -> onnx.ModelProto:
    """Flattening as PyTorch writes it: Shape, Gather, Unsqueeze, Concat, Reshape."""
    net = Net(opset)
    x = net.node("GlobalAveragePool", net.relu(net.conv("image", 3, 6)))
    batch = net.node("Gather", net.node("Shape", x), net.constant(0, np.int64))
    axes = {"axes": [0]} if opset < 13 else {}
    more = [] if opset < 13 else [net.constant([0], np.int64)]
    batch = net.node("Unsqueeze", batch, *more, **axes)
    x = net.node("Reshape", x, net.node("Concat", batch, net.constant([-1], np.int64), axis=0))
    net.gemm(net.relu(net.gemm(x, 6, 8)), 8, CLASSES, output="scores")
    return net.model()


@zoo
def matmul_head(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.node("Flatten", net.node("GlobalAveragePool", net.relu(net.conv("image", 3, 6))))
    x = net.relu(net.node("Add", net.node("MatMul", x, net.weight(6, 8)), net.weight(8)))
    net.node("Add", net.node("MatMul", x, net.weight(8, CLASSES)), net.weight(CLASSES), output="scores")
    return net.model()


@zoo
def bare_matmul_head(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.node("Flatten", net.node("GlobalAveragePool", net.relu(net.conv("image", 3, 6))))
    x = net.relu(net.node("MatMul", x, net.weight(6, 8)))
    net.node("MatMul", x, net.weight(8, CLASSES), output="scores")
    return net.model()


@zoo
def tokens(opset: int = 13) -> onnx.ModelProto:
    """An MLP-Mixer in small: MatMul on rank 3, biases as an Add of a constant."""
    net = Net(opset)
    x = net.conv("image", 3, 6, 2, strides=[2, 2], pads=[0, 0, 0, 0])
    x = net.node("Transpose", net.node("Reshape", x, net.constant([0, 6, -1], np.int64)), perm=[0, 2, 1])
    y = net.relu(net.node("Add", net.node("MatMul", x, net.weight(6, 8)), net.weight(8)))
    x = net.node("Add", x, net.node("Add", net.node("MatMul", y, net.weight(8, 6)), net.weight(6)))
    x = net.mean(x, (1,), keepdims=0)
    net.gemm(x, 6, CLASSES, output="scores")
    return net.model()


@zoo
def gemm_varieties(opset: int = 13) -> onnx.ModelProto:
    net = Net(opset)
    x = net.node("Flatten", net.node("GlobalAveragePool", net.relu(net.conv("image", 3, 6))))
    x = net.relu(net.node("Gemm", x, net.weight(6, 8), net.weight(1, 8), alpha=0.5, beta=2.0))
    x = net.relu(net.node("Gemm", x, net.weight(8, 8), net.constant([0.25]), transB=1))
    scalar = net.constant(0.25) if opset >= 11 else net.constant([0.25])
    x = net.relu(net.node("Gemm", x, net.weight(8, 8), scalar, transB=0))
    last = [] if opset >= 11 else [net.constant(np.zeros(CLASSES))]
    net.node("Gemm", x, net.weight(8, CLASSES), *last, output="scores")
    return net.model()
