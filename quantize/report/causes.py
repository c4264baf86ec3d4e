"""The part of `report.json` that says where the error comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantize.diagnose.changes import ChangedImage, Guess
from quantize.diagnose.diagnosis import Diagnosis, Signal
from quantize.diagnose.signal import TensorSignal

Json = dict[str, Any]


def diagnosis_json(diagnosis: Diagnosis) -> Json:
    """Plain values, described by `diagnosis` in `schema.json`; numbers may still be infinite."""
    changes, names = diagnosis.changes, diagnosis.names
    return {
        "signal": _signal(diagnosis.signal),
        "sensitivity_origin": diagnosis.sensitivity.origin,
        "changed_images": {
            "format": diagnosis.changes_format,
            **{f"{kind}_count": count for kind, count in changes.counts.items()},
            "shown": [_image(image, diagnosis.files.get(image.index, ""), names) for image in changes.shown],
        },
        "notes": list(diagnosis.notes),
    }


def _signal(signal: Signal) -> Json:
    return {
        "images": signal.images,
        "tensors": [_tensor(one) for one in signal.tensors],
        "histograms": [
            {"tensor": one.tensor, "low": one.low, "high": one.high, "counts": list(one.counts)}
            for one in signal.histograms
        ],
    }


def _tensor(one: TensorSignal) -> Json:
    range_low, range_high = one.pair.scale.bounds
    return {
        "tensor": one.pair.tensor,
        "operator": one.pair.operator,
        "op_type": one.pair.op_type,
        "sqnr_db": one.sqnr_db,
        "own_sqnr_db": one.own_sqnr_db,
        "low": one.low,
        "high": one.high,
        "range_low": range_low,
        "range_high": range_high,
        "saturated_fraction": one.saturated_fraction,
    }


def _image(image: ChangedImage, file: str, names: Mapping[int, str]) -> Json:
    def guess(one: Guess) -> Json:
        return {
            "class": one.class_index,
            "name": names.get(one.class_index, ""),
            "probability": one.probability,
        }

    return {
        "file": file,
        "kind": image.kind,
        "label": image.label,
        "label_name": names.get(image.label, ""),
        "kl_nats": image.kl_nats,
        "fp32": [guess(one) for one in image.fp32],
        "int8": [guess(one) for one in image.int8],
    }
