"""The part of a configuration that determines the result, in one spelling only."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from quantize.config.data import ClassFolders, Dataloader, Dataset
from quantize.config.fields import plain
from quantize.config.resolved import Resolved
from quantize.config.schema import Settings

__all__ = ["digest", "full", "to_json"]

# Raised when the meaning of a field changes, so that equal hashes stay equal results.
_FORM_VERSION = 1


def full(settings: Settings) -> dict[str, Any]:
    """Every field, defaults included, as plain JSON values."""
    dumped: dict[str, Any] = plain(settings.model_dump())
    return dumped


def to_json(config: Resolved) -> str:
    """The settings that matter, with sorted keys and without spaces. Transforms keep their order."""
    calibration = config.quantization.calibration
    accuracy = config.evaluation.accuracy
    matters = {
        "form": _FORM_VERSION,
        "formats": sorted(config.formats),
        "target": config.target.name,
        "calibration": {
            "images": config.calibration_count,
            "allow_overlap": calibration.allow_overlap,
            "data": _data(calibration.dataloader, accuracy.dataloader),
        },
        "evaluation": {
            "images": config.evaluation_count,
            "data": _data(accuracy.dataloader, calibration.dataloader),
            "label_shift": accuracy.postprocess.transform.LabelShift,
        },
        "criterion": {
            "kind": config.criterion.kind,
            "tolerance": config.criterion.tolerance,
            "metric": config.criterion.metric,
        },
        "refine": config.refine,
        "allowed": {
            "model_wise": config.quantization.model_wise,
            "optype_wise": config.quantization.optype_wise,
            "op_wise": config.quantization.op_wise,
        },
        "search": {
            "strategy": config.tuning.strategy.name,
            "timeout": config.tuning.exit_policy.timeout,
            "max_trials": config.tuning.exit_policy.max_trials,
            "seed": config.seed,
            "abandon_confidence": config.tuning.exit_policy.abandon_confidence,
        },
    }
    return json.dumps(plain(matters), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(canonical_json: str) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json.encode()).hexdigest()


def _data(loader: Dataloader, fallback: Dataloader) -> dict[str, Any]:
    dataset = loader.dataset or fallback.dataset
    transform = loader.transform or fallback.transform or {}
    return {
        "dataset": None if dataset is None else _dataset(dataset),
        "transform": [[name, arguments or {}] for name, arguments in plain(transform).items()],
    }


def _dataset(dataset: Dataset) -> dict[str, Any]:
    images = dataset.images
    return {
        "kind": dataset.kind,
        "exif_orientation": images is not None and images.exif_orientation,
        "wordnet_ids": isinstance(images, ClassFolders) and images.synset is not None,
    }
