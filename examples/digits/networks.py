"""The example's networks, each small enough to train on a CPU in minutes: ``[N, 3, 64, 64]`` → ``[N, 10]``.

Only ``train.py`` imports this module: the pipeline itself never needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn

CLASS_COUNT = 10
NetworkBuilder = Callable[[], nn.Module]


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of ``divisor``, up again if that lost more than a tenth.

    The rule by which MobileNetV2 applies its width multiplier (Sandler et al. 2018, arXiv 1801.04381).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class Stage(NamedTuple):
    """A row of the paper's table 2: ``repeats`` blocks, of which only the first has the stride."""

    expansion: int
    channels: int
    repeats: int
    stride: int


MOBILENETV2_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
MOBILENETV2_WIDTH = 0.35  # the narrowest of the paper: 0.41 million weights with ten classes


def convolution(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, relu6: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch normalization and, unless it is a linear bottleneck, ReLU6."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if relu6 else nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1; add the input where shapes allow.

    The narrow end has no activation: the paper's linear bottleneck.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *([convolution(inputs, hidden)] if expansion > 1 else []),
            convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            convolution(hidden, outputs, relu6=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, inputs, H, W]`` → ``[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]``."""
        return x + self.body(x) if self.is_residual else self.body(x)


class MobileNetV2(nn.Module):
    """The paper's network with all its blocks; as there, a width below 1 spares the last 1,280 channels."""

    def __init__(self, width: float = MOBILENETV2_WIDTH) -> None:
        super().__init__()
        self.width_multiplier = width
        channels = make_divisible(32 * width)
        layers: list[nn.Module] = [convolution(3, channels, kernel=3, stride=2)]
        for stage in MOBILENETV2_STAGES:
            outputs = make_divisible(stage.channels * width)
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                layers.append(InvertedResidual(channels, outputs, stride=stride, expansion=stage.expansion))
                channels = outputs
        last = make_divisible(1280 * max(1.0, width))
        self.features = nn.Sequential(*layers, convolution(channels, last))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, CLASS_COUNT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 64, 64]`` in -1..1 → logits ``[N, 10]``."""
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


NETWORKS: Mapping[str, NetworkBuilder] = {"mobilenetv2": MobileNetV2}
