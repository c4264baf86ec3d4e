"""Judges models while the engine tunes: accuracy on the evaluation images, divergence on a few others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from calibration.dataloader import DataLoader
from quantize.baseline import Baseline
from quantize.criterion import Criterion
from quantize.errors import InputError
from quantize.evaluate import evaluate
from quantize.metrics import Counts, Fidelity, guessing_accuracy
from quantize.session import make_session, outputs

# Divergence ranks dozens of candidates; so many images tell them apart in a fraction of a second each.
_DIVERGENCE_IMAGE_COUNT = 32

# With fewer classes or images a model that is merely weak could look like one that guesses.
_TELLING_CLASS_COUNT = 10
_TELLING_IMAGE_COUNT = 20


class AccuracyJudge:
    """The engine's `Judge`: the criterion's metric on the evaluation images.

    Args:
        loader: evaluation images.
        criterion: says which metric.
        threads: batches under way at once.
        classes: of the model; None if it does not say.
        baseline: knows the accuracy of the fp32 model on these images, for the first call.
    """

    def __init__(
        self,
        loader: DataLoader,
        criterion: Criterion,
        *,
        threads: int,
        classes: int | None = None,
        baseline: Baseline | None = None,
    ) -> None:
        self._baseline = baseline
        self._loader, self._criterion, self._threads = loader, criterion, threads
        self._classes, self._calls = classes, 0

    def __call__(self, model: onnx.ModelProto) -> float:
        """Accuracy of a model, a fraction.

        Raises:
            InputError: the first model, which is fp32, may as well be guessing: it proves nothing.
        """
        self._calls += 1
        if self._calls == 1 and self._baseline is not None:
            counts = self._baseline.evaluation.counts
        else:
            session = make_session(model, threads=1)
            description = f"trial {self._calls - 1}" if self._calls > 1 else "fp32"
            found = evaluate(
                {"model": session}, self._loader, workers=self._threads, description=description
            )
            counts = found["model"].counts
        if self._calls == 1:
            self._check_baseline(counts)
        return counts.top1 if self._criterion.metric == "top1" else counts.top5

    def _check_baseline(self, counts: Counts) -> None:
        classes = self._classes or 0
        if classes < _TELLING_CLASS_COUNT or counts.images < _TELLING_IMAGE_COUNT:
            return
        if counts.top1 < guessing_accuracy(classes, counts.images):
            raise InputError(
                f"the fp32 model is right on {counts.top1_correct} of {counts.images} images, hardly better "
                f"than guessing among {classes} classes: check the labels (shifted by one? add LabelShift; "
                "class folders in another order?) and the transforms (those of its training?)"
            )


class CalibrationDivergence:
    """The engine's `Divergence`: mean KL(fp32 ‖ model) over the first calibration images, in nats.

    Calibration images, because accuracy is judged on the evaluation images, which must not choose twice.
    """

    def __init__(
        self, fp32: onnx.ModelProto, loader: DataLoader, *, threads: int, probabilities: bool
    ) -> None:
        self._threads, self._probabilities = threads, probabilities
        self._loader, self._fp32 = loader, fp32
        self._images: np.ndarray[Any, np.dtype[np.float32]] | None = None
        self._reference: np.ndarray[Any, Any] | None = None

    def __call__(self, model: onnx.ModelProto) -> float:
        """Divergence of a model from fp32; the images are read and fp32 is run when first needed."""
        if self._images is None or self._reference is None:
            self._images = self._first_images()
            self._reference = outputs(make_session(self._fp32, threads=self._threads), self._images)
        logits = outputs(make_session(model, threads=self._threads), self._images)
        return Fidelity.from_logits(self._reference, logits, probabilities=self._probabilities).kl

    def _first_images(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        count = min(_DIVERGENCE_IMAGE_COUNT, len(self._loader.images))
        first = self._loader.subset(range(count), batch_size=count)
        return np.concatenate([images for images, _ in first])
