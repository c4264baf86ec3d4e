"""ResNet: one of the three networks that only tests use."""

from __future__ import annotations

import torch
from layers import CLASS_COUNT, convolution
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to the input or, where the shape changes, to a 1x1 convolution of it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(inputs, outputs, kernel=3, stride=stride, activation=nn.ReLU),
            convolution(outputs, outputs, kernel=3, activation=None),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, stride=stride, activation=None)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, inputs, H, W]`` → ``[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]``."""
        return self.activation(self.body(x) + self.shortcut(x))


RESNET_CHANNELS = (16, 32, 56)  # a last stage of 64 would not leave the file below 700 kB


class ResNet(nn.Module):
    """He et al. 2015, arXiv 1512.03385: three stages of two basic blocks; a classifier without bias."""

    def __init__(self) -> None:
        super().__init__()
        channels = RESNET_CHANNELS[0]
        layers: list[nn.Module] = [
            convolution(3, channels, kernel=3, stride=2, activation=nn.ReLU),
            nn.MaxPool2d(3, 2, 1),
        ]
        for stage, outputs in enumerate(RESNET_CHANNELS):
            layers.append(BasicBlock(channels, outputs, stride=1 if stage == 0 else 2))
            layers.append(BasicBlock(outputs, outputs, stride=1))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, CLASS_COUNT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 64, 64]`` in -1..1 → logits ``[N, 10]``."""
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))
