"""SqueezeNet: one of the three networks that only tests use."""

from __future__ import annotations

import torch
from layers import CLASS_COUNT, convolution
from torch import nn


class Fire(nn.Module):
    """Narrow by 1x1, then widen by 1x1 and by 3x3 side by side, each with ReLU."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = convolution(inputs, squeezed, activation=nn.ReLU)
        self.expand_1x1 = convolution(squeezed, expanded, activation=nn.ReLU)
        self.expand_3x3 = convolution(squeezed, expanded, kernel=3, activation=nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, inputs, H, W]`` → ``[N, 2 expanded, H, W]``."""
        narrow = self.squeeze(x)
        return torch.cat([self.expand_1x1(narrow), self.expand_3x3(narrow)], 1)


# Squeezed and expanded channels of the fire modules: the paper's halved, without its last module. A pooling
# goes before the first, the third and the fifth, as in the authors' version 1.1. Theirs round up too, but at
# extents of 32, 16 and 8, which ours get, that makes the last windows reach over the edge.
FIRES = ((8, 32), (8, 32), (16, 64), (16, 64), (24, 96), (24, 96), (32, 128))
POOLED_FIRES = (0, 2, 4)


class SqueezeNet(nn.Module):
    """Iandola et al. 2016, arXiv 1602.07360: Concat, and a convolution with ReLU that classifies every place.

    The scores are the means over all places and keep their axes of extent 1, as in the Model Zoo's file. The
    paper's has no batch normalization; without it this one got stuck at 40 % of the validation digits.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [convolution(3, channels, kernel=3, stride=2, activation=nn.ReLU)]
        for index, (squeezed, expanded) in enumerate(FIRES):
            if index in POOLED_FIRES:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(channels, squeezed, expanded))
            channels = 2 * expanded
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(0.2), nn.Conv2d(channels, CLASS_COUNT, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, 3, 64, 64]`` in -1..1 → logits ``[N, 10, 1, 1]``, none negative."""
        return self.classifier(self.features(x))
