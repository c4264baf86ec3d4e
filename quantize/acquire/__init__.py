"""Gets what a run starts from: a published model, and ImageNet's validation images with their labels."""

from __future__ import annotations

from quantize.acquire.ground_truth import GroundTruth, read_devkit, read_ground_truth
from quantize.acquire.imagenet import OFFICIAL_SHA1, PreparedImages, prepare_imagenet
from quantize.acquire.model import AcquiredModel, acquire_model

__all__ = [
    "OFFICIAL_SHA1",
    "AcquiredModel",
    "GroundTruth",
    "PreparedImages",
    "acquire_model",
    "prepare_imagenet",
    "read_devkit",
    "read_ground_truth",
]
