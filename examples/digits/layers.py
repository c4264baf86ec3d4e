"""What the networks are built from. They take ``[N, 3, 64, 64]`` and tell ten classes apart."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

CLASS_COUNT = 10
ActivationBuilder = Callable[[], nn.Module]


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of ``divisor``, up again if that lost more than a tenth.

    The rule by which MobileNetV2 applies its width multiplier (Sandler et al. 2018, arXiv 1801.04381), and
    MobileNetV3 sizes its Squeeze-and-Excite.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def convolution(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: ActivationBuilder | None = nn.ReLU6,
) -> nn.Sequential:
    """Convolution without bias, batch normalization and, unless it is a linear one, the activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation())
