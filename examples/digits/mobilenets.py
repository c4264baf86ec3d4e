"""MobileNetV2, the bundled network, and MobileNetV3, one of the three that only tests use."""

from __future__ import annotations

from typing import NamedTuple

import torch
from layers import CLASS_COUNT, ActivationBuilder, convolution, make_divisible
from torch import nn


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
            convolution(hidden, outputs, activation=None),
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


class SqueezeExcite(nn.Module):
    """Scale every channel by a factor in 0..1 that two small layers compute from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = make_divisible(channels / 4)
        self.factors = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` → the same shape."""
        return x * self.factors(x)


class Bottleneck(NamedTuple):
    """A row of MobileNetV3's table 2; ``hidden`` is absolute there, not a multiple of the input."""

    kernel: int
    hidden: int
    channels: int
    excited: bool
    activation: ActivationBuilder
    stride: int


class InvertedResidualV3(nn.Module):
    """MobileNetV2's block with any kernel and activation, and with Squeeze-and-Excite before narrowing."""

    def __init__(self, inputs: int, row: Bottleneck) -> None:
        super().__init__()
        self.is_residual = row.stride == 1 and inputs == row.channels
        self.body = nn.Sequential(
            *([convolution(inputs, row.hidden, activation=row.activation)] if row.hidden != inputs else []),
            convolution(
                row.hidden,
                row.hidden,
                kernel=row.kernel,
                stride=row.stride,
                groups=row.hidden,
                activation=row.activation,
            ),
            *([SqueezeExcite(row.hidden)] if row.excited else []),
            convolution(row.hidden, row.channels, activation=None),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, inputs, H, W]`` → ``[N, channels, ⌈H/stride⌉, ⌈W/stride⌉]``."""
        return x + self.body(x) if self.is_residual else self.body(x)


# The paper's MobileNetV3-Small at half width, without the last of every run of equal rows.
MOBILENETV3_ROWS = (
    Bottleneck(3, 8, 8, True, nn.ReLU, 2),
    Bottleneck(3, 40, 16, False, nn.ReLU, 2),
    Bottleneck(3, 48, 16, False, nn.ReLU, 1),
    Bottleneck(5, 48, 24, True, nn.Hardswish, 2),
    Bottleneck(5, 120, 24, True, nn.Hardswish, 1),
    Bottleneck(5, 72, 24, True, nn.Hardswish, 1),
    Bottleneck(5, 144, 48, True, nn.Hardswish, 2),
    Bottleneck(5, 192, 48, True, nn.Hardswish, 1),
)


class MobileNetV3(nn.Module):
    """Howard et al. 2019, arXiv 1905.02244: HardSwish, Squeeze-and-Excite, 5x5 depthwise, two-layer head."""

    def __init__(self) -> None:
        super().__init__()
        channels = 8
        layers: list[nn.Module] = [convolution(3, channels, kernel=3, stride=2, activation=nn.Hardswish)]
        for row in MOBILENETV3_ROWS:
            layers.append(InvertedResidualV3(channels, row))
            channels = row.channels
        wide, last = 192, 128
        self.features = nn.Sequential(*layers, convolution(channels, wide, activation=nn.Hardswish))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(wide, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, CLASS_COUNT)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 64, 64]`` in -1..1 → logits ``[N, 10]``."""
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))
