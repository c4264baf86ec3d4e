"""Judges models while the engine tunes: accuracy on the evaluation images, divergence on a few others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from calibration.dataloader import DataLoader
from quantize.baseline import Baseline
from quantize.criterion import Criterion
from quantize.diagnose.probe import Probe
from quantize.errors import InputError
from quantize.evaluate import evaluate
from quantize.metrics import Counts, guessing_accuracy
from quantize.sequential import LEAST_IMAGES, Sequential
from quantize.session import make_session

# Divergence ranks dozens of candidates; so many images tell them apart in a fraction of a second each.
_DIVERGENCE_IMAGE_COUNT = 32


# With fewer classes or images a model that is merely weak could look like one that guesses.
_TELLING_CLASS_COUNT = 10
_TELLING_IMAGE_COUNT = 20


@dataclass(frozen=True)
class Abandonment:
    """How early a trial may be given up.

    Attributes:
        confidence: that it misses the criterion, a fraction of 1.
        seed: of the order in which the images are seen.
    """

    confidence: float
    seed: int


class AccuracyJudge:
    """The engine's `Judge`: the criterion's metric on the evaluation images.

    Args:
        loader: evaluation images.
        criterion: says which metric.
        threads: batches under way at once.
        classes: of the model; None if it does not say.
        baseline: knows the accuracy of the fp32 model on these images, for the first call.
        abandonment: when to give a trial up, on large sets, if the baseline is known; None is never.

    Attributes:
        judged_images: images that models were judged on, each as often as it was.
        abandoned: number of a trial that was given up -> how many images it was judged on.
    """

    def __init__(
        self,
        loader: DataLoader,
        criterion: Criterion,
        *,
        threads: int,
        classes: int | None = None,
        baseline: Baseline | None = None,
        abandonment: Abandonment | None = None,
    ) -> None:
        self._baseline, self._abandonment = baseline, abandonment
        self.abandoned: dict[int, int] = {}
        self.judged_images = 0
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
        elif self._baseline is not None and self._may_be_abandoned():
            return self._until_decided(model, self._baseline, self._abandonment)
        else:
            session = make_session(model, threads=1)
            description = f"trial {self._calls - 1}" if self._calls > 1 else "fp32"
            found = evaluate(
                {"model": session},
                self._loader,
                workers=self._threads,
                description=description,
                sources={"model": model},
                made_here=("model",) if self._calls > 1 else (),
            )
            counts = found["model"].counts
            self.judged_images += counts.images
        if self._calls == 1:
            self._check_baseline(counts)
        return counts.top1 if self._criterion.metric == "top1" else counts.top5

    def _may_be_abandoned(self) -> bool:
        return self._abandonment is not None and len(self._loader.images) >= LEAST_IMAGES

    def _until_decided(
        self, model: onnx.ModelProto, baseline: Baseline, abandonment: Abandonment | None
    ) -> float:
        """Accuracy of a trial; an estimate that misses the criterion if that was certain enough early on."""
        assert abandonment is not None
        metric = self._criterion.metric
        known = baseline.evaluation
        reference = known.top1_hits if metric == "top1" else known.top5_hits
        # The test needs a random order, and the set's own is that of the classes.
        order = np.random.default_rng(abandonment.seed).permutation(len(reference))
        test = Sequential(reference[order], self._criterion, error_fraction=1 - abandonment.confidence)
        found = evaluate(
            {"model": make_session(model, threads=1)},
            self._loader.subset(order.tolist(), progress=self._loader.progress),
            workers=self._threads,
            watch=lambda outcomes: test.add(
                outcomes["model"].top1 if metric == "top1" else outcomes["model"].top5
            ),
            description=f"trial {self._calls - 1}",
            sources={"model": model},
            made_here=("model",),
        )["model"]
        self.judged_images += test.seen
        if test.seen == len(reference):
            return found.counts.top1 if metric == "top1" else found.counts.top5
        self.abandoned[self._calls - 1] = test.seen
        accuracy = float(reference.mean())
        just_missing = self._criterion.lowest_accepted(accuracy) - 1 / len(reference)
        return max(0.0, min(accuracy - test.decline, just_missing))

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
    """The engine's `Divergence`: mean KL(fp32 ‖ model) over the first calibration images, in nats."""

    def __init__(
        self, fp32: onnx.ModelProto, loader: DataLoader, *, threads: int, probabilities: bool
    ) -> None:
        self._probe = Probe(
            fp32, loader, _DIVERGENCE_IMAGE_COUNT, threads=threads, probabilities=probabilities
        )

    def __call__(self, model: onnx.ModelProto) -> float:
        """Divergence of a model from fp32; the images are read and fp32 is run when first needed."""
        return self._probe.fidelity(model).kl
