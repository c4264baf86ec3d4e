"""Judges models while the engine tunes: accuracy on the evaluation images, divergence on a few others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnxruntime import InferenceSession

from calibration.dataloader import DataLoader
from quantize.baseline import Baseline
from quantize.batches import Remembered
from quantize.criterion import Criterion
from quantize.diagnose.probe import Probe
from quantize.errors import InputError
from quantize.evaluate import evaluate
from quantize.judged import JudgedOutputs
from quantize.metrics import Counts, guessing_accuracy
from quantize.model import serialize
from quantize.sequential import LEAST_IMAGES, Sequential
from quantize.session import make_session
from quantize.work import Codec, Work

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


@dataclass(frozen=True)
class _Judged:
    """What judging one model came to.

    Attributes:
        accuracy: a fraction; an estimate if judging was given up.
        images: how many it was judged on.
        abandoned: whether that was before the last.
    """

    accuracy: float
    images: int
    abandoned: bool


_JUDGED: Codec[_Judged] = Codec(
    lambda one: ({"accuracy": one.accuracy, "images": one.images, "abandoned": one.abandoned}, {}),
    lambda values, _: _Judged(float(values["accuracy"]), int(values["images"]), bool(values["abandoned"])),
)


class AccuracyJudge:
    """The engine's `Judge`: the criterion's metric on the evaluation images.

    Args:
        loader: evaluation images.
        criterion: says which metric.
        threads: batches under way at once.
        classes: of the model; None if it does not say.
        baseline: knows the accuracy of the fp32 model on these images, for the first call.
        abandonment: when to give a trial up, on large sets, if the baseline is known; None is never.
        judged: remembers what the last model put out.
        work: where what is finished is kept.

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
        judged: JudgedOutputs | None = None,
        work: Work | None = None,
    ) -> None:
        self._work = Work.forgotten() if work is None else work
        self._baseline, self._abandonment = baseline, abandonment
        self._judged_outputs = judged
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
        if self._calls == 1:
            return self._fp32(model)
        # The same bytes on the same images; the rest is in the work's context.
        facts = {"model": hashlib.sha256(serialize(model)).hexdigest(), "criterion": str(self._criterion)}
        judged = self._work.done("accuracy", facts, lambda: self._judged(model), _JUDGED)
        self.judged_images += judged.images
        if judged.abandoned:
            self.abandoned[self._calls - 1] = judged.images
        return judged.accuracy

    def _fp32(self, model: onnx.ModelProto) -> float:
        if self._baseline is not None:
            counts = self._baseline.evaluation.counts
        else:
            counts = self._counts(model, "fp32")
            self.judged_images += counts.images
        self._check_baseline(counts)
        return self._metric(counts)

    def _judged(self, model: onnx.ModelProto) -> _Judged:
        description = f"trial {self._calls - 1}"
        large = len(self._loader.images) >= LEAST_IMAGES
        if large and self._baseline is not None and self._abandonment is not None:
            return self._until_decided(model, self._baseline, self._abandonment, description)
        counts = self._counts(model, description)
        return _Judged(self._metric(counts), counts.images, abandoned=False)

    def _counts(self, model: onnx.ModelProto, description: str) -> Counts:
        session = make_session(model, threads=1)
        found = evaluate(
            {"model": self._recorded(model, session)},
            self._loader,
            workers=self._threads,
            description=description,
            sources={"model": model},
            made_here=("model",) if self._calls > 1 else (),
        )
        return found["model"].counts

    def _recorded(
        self, model: onnx.ModelProto, session: InferenceSession, order: Sequence[int] | None = None
    ) -> InferenceSession | Remembered:
        """The session, whose outputs are remembered where somebody wants that."""
        judged = self._judged_outputs
        return session if judged is None else judged.recording(model, session, order=order)

    def _metric(self, counts: Counts) -> float:
        return counts.top1 if self._criterion.metric == "top1" else counts.top5

    def _until_decided(
        self, model: onnx.ModelProto, baseline: Baseline, abandonment: Abandonment, description: str
    ) -> _Judged:
        """Accuracy of a trial; an estimate that misses the criterion if that was certain enough early on."""
        metric = self._criterion.metric
        known = baseline.evaluation
        reference = known.top1_hits if metric == "top1" else known.top5_hits
        # The test needs a random order, and the set's own is that of the classes.
        order = np.random.default_rng(abandonment.seed).permutation(len(reference))
        session, places = make_session(model, threads=1), order.tolist()
        test = Sequential(reference[order], self._criterion, error_fraction=1 - abandonment.confidence)
        found = evaluate(
            {"model": self._recorded(model, session, places)},
            self._loader.subset(places, progress=self._loader.progress),
            workers=self._threads,
            watch=lambda outcomes: test.add(
                outcomes["model"].top1 if metric == "top1" else outcomes["model"].top5
            ),
            description=description,
            sources={"model": model},
            made_here=("model",),
        )["model"]
        if test.seen == len(reference):
            return _Judged(self._metric(found.counts), test.seen, abandoned=False)
        accuracy = float(reference.mean())
        just_missing = self._criterion.lowest_accepted(accuracy) - 1 / len(reference)
        return _Judged(max(0.0, min(accuracy - test.decline, just_missing)), test.seen, abandoned=True)

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
