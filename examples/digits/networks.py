"""The networks that ``train.py`` can train, each in minutes on a CPU.

MobileNetV2 is the bundled one. The other three are narrow versions of architectures that quantization meets
differently, for tests. Only ``train.py`` imports this: the pipeline itself never needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mobilenets import MobileNetV2, MobileNetV3
from resnet import ResNet
from squeezenet import SqueezeNet
from torch import nn

NetworkBuilder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How one network is built and written.

    Attributes:
        build: makes it with fresh weights.
        opset: of the exported file.
        folds_batch_norm: whether export folds batch normalization into the convolutions.
        batch_size: of the exported file; None leaves it open.
    """

    build: NetworkBuilder
    opset: int
    folds_batch_norm: bool = True
    batch_size: int | None = None


NETWORKS: Mapping[str, Recipe] = {
    "mobilenetv2": Recipe(MobileNetV2, opset=12),  # the Model Zoo's; the pipeline raises it itself
    # The files for tests differ in whatever a file can differ in. 14 is the first opset with HardSwish.
    "mobilenetv3": Recipe(MobileNetV3, opset=17),
    "resnet": Recipe(ResNet, opset=13, folds_batch_norm=False),
    "squeezenet": Recipe(SqueezeNet, opset=11, batch_size=1),
}
