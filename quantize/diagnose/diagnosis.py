"""Puts together what the report says about errors, and keeps it from costing a finished run anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from calibration.dataloader import DataLoader
from quantize.diagnose.changes import Changes
from quantize.diagnose.equalization import channel_factors
from quantize.diagnose.pairing import pair_tensors
from quantize.diagnose.sensitivity import DivergenceWithout, savings
from quantize.diagnose.signal import (
    TensorSignal,
    ValueHistogram,
    collect_histograms,
    measure_signal,
)
from quantize.errors import PipelineError
from quantize.export import to_qoperator
from quantize.operators import Inventory

# A minority of images has massive activations: with eight images they may be missed, and sixteen take half a
# second on MobileNetV2.
_SIGNAL_IMAGE_COUNT = 16

# The tensors whose ranges are shown: a row of six small charts fits a screen.
_WORST_COUNT = 6

# What sensitivity may take when nobody asked for it, in multiply-adds: a few seconds, a small part of any
# run. Work and not time, because the report must not depend on how busy a machine is.
_SENSITIVITY_BUDGET = 4e10

# Of each model that is measured: writing it and making a session (20 ms), and the images that it is run on.
_MODEL_OVERHEAD = 2e8
_MODEL_IMAGES = 32

_NOT_MEASURED = (
    "Not measured, because it takes more than a moment for this model. Run again with --measure_sensitivity, "
    "or run python -m quantize sensitivity once and give its file to --sensitivity."
)


@dataclass(frozen=True)
class Signal:
    """Signal-to-noise along the network.

    Attributes:
        images: how many it was measured on.
        tensors: in the order of the network; empty if it could not be measured.
        histograms: of the tensors whose own rounding costs most.
    """

    images: int = 0
    tensors: tuple[TensorSignal, ...] = ()
    histograms: tuple[ValueHistogram, ...] = ()


@dataclass(frozen=True)
class Sensitivity:
    """What each operator costs.

    Attributes:
        saved_nats: operator name -> divergence saved by leaving it in fp32; empty if it was not measured.
        origin: where that comes from, or why there is none: a sentence.
    """

    saved_nats: Mapping[str, float] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Where the error comes from.

    Attributes:
        signal, sensitivity: see their types.
        changes: which images changed their mind.
        changes_format: the format that they are of.
        files: index of a shown image -> its file, relative to the folder of the images.
        names: class index -> what it is called.
        notes: what could not be measured, and why.
    """

    signal: Signal
    sensitivity: Sensitivity
    changes: Changes
    changes_format: str
    files: Mapping[int, str]
    names: Mapping[int, str]
    notes: tuple[str, ...] = ()


def measured_signal(
    fp32: onnx.ModelProto,
    inventory: Inventory,
    qdq: onnx.ModelProto,
    loader: DataLoader,
    *,
    threads: int,
) -> tuple[Signal, tuple[str, ...]]:
    """Signal-to-noise on the first calibration images.

    A model that cannot be looked into is no reason to lose a run that has finished, so failures become notes.

    Args:
        fp32: the prepared model.
        inventory: its operators.
        qdq: the int8 model in its QDQ format.
        loader: calibration images.
        threads: images under way at once.

    Returns:
        What was measured, and notes.
    """
    try:
        pairs, factors = pair_tensors(fp32, inventory, qdq), channel_factors(fp32, inventory, qdq)
        images = _first_images(loader, fp32)
        tensors = measure_signal(fp32, to_qoperator(qdq), pairs, images, factors=factors, threads=threads)
        histograms = collect_histograms(fp32, _worst(tensors), images, factors=factors, threads=threads)
    except PipelineError as error:
        return Signal(), (f"signal-to-noise was not measured: {error}",)
    return Signal(sum(map(len, images)), tuple(tensors), tuple(histograms)), ()


def _first_images(loader: DataLoader, model: onnx.ModelProto) -> list[npt.NDArray[np.float32]]:
    """The first calibration images as the model takes them: one by one, or in its fixed batches."""
    size = max(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, 1)
    count = min(max(_SIGNAL_IMAGE_COUNT, size), len(loader.images))
    first = loader.subset(range(count), batch_size=size)
    return [np.ascontiguousarray(images[np.arange(size) % len(images)]) for images, _ in first]


def _worst(tensors: Sequence[TensorSignal]) -> list[TensorSignal]:
    """Those whose own rounding costs most, in the order of the network."""
    known = [one for one in tensors if np.isfinite(one.own_sqnr_db)]
    worst = sorted(known, key=lambda one: one.own_sqnr_db)[:_WORST_COUNT]
    return [one for one in tensors if one in worst]


def measured_sensitivity(
    operators: Sequence[str],
    divergence_without: DivergenceWithout,
    *,
    asked: bool,
    multiply_adds: int | None,
) -> Sensitivity:
    """Sensitivity of the finished model, where it was asked for or costs next to nothing.

    Args:
        operators: the integer operators of the model.
        divergence_without: measures one model.
        asked: measure, however long it takes.
        multiply_adds: what the network computes for one image; None if that is not known.
    """
    try:
        if not asked and not _is_cheap(operators, multiply_adds):
            return Sensitivity(origin=_NOT_MEASURED)
        return Sensitivity(savings(operators, divergence_without), "Measured on the finished model.")
    except PipelineError as error:
        return Sensitivity(origin=f"Not measured: {error}.")


def _is_cheap(operators: Sequence[str], multiply_adds: int | None) -> bool:
    if multiply_adds is None:
        return False
    return len(operators) * (_MODEL_OVERHEAD + _MODEL_IMAGES * multiply_adds) <= _SENSITIVITY_BUDGET
