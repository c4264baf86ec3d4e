"""Preprocessing in the semantics of INC 1.x for classification, plus ResizeShortest of our own.

| transform | from → to |
|---|---|
| Rescale | any → float32, divided by 255 |
| Resize | HxWxC → fixed size, squashed, OpenCV without antialiasing |
| ResizeShortest | 8-bit → shorter side fixed, Pillow with antialiasing |
| CenterCrop | HxWxC → the middle of it |
| ResizeCropImagenet, BilinearImagenet | 8-bit → float32, everything in one step |
| Normalize | any → float32, (x - mean) / std |
| Transpose, Cast | other axes, other type |
| LabelShift | label → label - shift |
"""

from __future__ import annotations

from calibration.transforms.arithmetic import Cast, LabelShift, Normalize, Rescale, Transpose
from calibration.transforms.base import Array, Pixels, Spec, Transform
from calibration.transforms.geometry import CenterCrop, Resize, ResizeShortest
from calibration.transforms.imagenet import BilinearImagenet, ResizeCropImagenet
from calibration.transforms.pipeline import KNOWN, Pipeline, build_pipeline

__all__ = [
    "KNOWN",
    "Array",
    "BilinearImagenet",
    "Cast",
    "CenterCrop",
    "LabelShift",
    "Normalize",
    "Pipeline",
    "Pixels",
    "Rescale",
    "Resize",
    "ResizeCropImagenet",
    "ResizeShortest",
    "Spec",
    "Transform",
    "Transpose",
    "build_pipeline",
]
