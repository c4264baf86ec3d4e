"""Immutable sufficient statistics of a classifier's outputs: empty → merge → compute.

Ties are broken the same way everywhere: the lowest class index wins, for top-1 as for top-5, so that two runs
and two formats never differ by the order in which a sort met equal numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import EngineError, InputError
from quantize.portable_math import exp, log

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]

TOP_K = 5
# Log-probabilities are bounded below by that of float32's smallest normal number (1.2e-38): a softmax in
# float32 cannot say less than that, and an int8 one says 0, which would make any divergence infinite.
_PROBABILITY_FLOOR = float(np.finfo(np.float32).tiny)
_LOG_FLOOR = float(log(_PROBABILITY_FLOOR))


class NonFiniteError(EngineError):
    """Scores are NaN or plus infinity.

    Attributes:
        model: what the model is called.
        rows: the images of the batch that it happened to.
    """

    def __init__(self, model: str, rows: tuple[int, ...], images: int) -> None:
        super().__init__(f"{model}: NaN or infinite logits for {len(rows)} of {images} images of a batch")
        self.model, self.rows = model, rows


@dataclass(frozen=True)
class Counts:
    """How often the right class came first, or among the first five.

    `top1 = top1_correct / images`; `top1_ties` counts the images whose largest value is shared by several
    classes.
    """

    images: int = 0
    top1_correct: int = 0
    top5_correct: int = 0
    top1_ties: int = 0

    @classmethod
    def empty(cls) -> Counts:
        """The neutral element of `merge`."""
        return cls()

    @classmethod
    def from_logits(cls, logits: Floats, labels: Labels, *, model: str = "model") -> Counts:
        """Count one batch: logits [N, C] float, labels [N] integer; raises as `label_ranks` does."""
        ranks = label_ranks(logits, labels, model=model)
        return cls.from_hits(ranks == 0, ranks < TOP_K, ties=count_ties(logits))

    @classmethod
    def from_hits(cls, top1: Bools, top5: Bools, *, ties: int) -> Counts:
        """Count outcomes per image, each [N] bool."""
        return cls(len(top1), int(top1.sum()), int(top5.sum()), ties)

    def merge(self, other: Counts) -> Counts:
        """The counts of both sets of images together."""
        return Counts(
            self.images + other.images,
            self.top1_correct + other.top1_correct,
            self.top5_correct + other.top5_correct,
            self.top1_ties + other.top1_ties,
        )

    @property
    def top1(self) -> float:
        """Fraction of the images whose label came first; NaN without images."""
        return self.top1_correct / self.images if self.images else float("nan")

    @property
    def top5(self) -> float:
        """Fraction whose label was among the first five (or all classes, if fewer); NaN without images."""
        return self.top5_correct / self.images if self.images else float("nan")


@dataclass(frozen=True)
class Fidelity:
    """How closely a model follows its reference, whatever the labels say.

    `agreement = agree / images`; `kl = kl_sum / images`, in nats, where each image adds
    KL(p||q) = Σ_c p_c (log p_c - log q_c) with p the reference's probabilities and q the model's.
    """

    images: int = 0
    agree: int = 0
    kl_sum: float = 0.0

    @classmethod
    def empty(cls) -> Fidelity:
        """The neutral element of `merge`."""
        return cls()

    @classmethod
    def from_logits(
        cls, reference: Floats, candidate: Floats, *, probabilities: bool = False, model: str = "model"
    ) -> Fidelity:
        """Compare one batch, both [N, C] float.

        Args:
            reference: what the reference put out.
            candidate: what the model put out.
            probabilities: the outputs are softmax values already, not logits.
            model: what to call the candidate in messages.

        Raises:
            EngineError: shapes differ, or a value is NaN or plus infinity.
        """
        each = divergences(reference, candidate, probabilities=probabilities, model=model)
        agree = int((reference.argmax(axis=1) == candidate.argmax(axis=1)).sum())
        return cls(len(reference), agree, float(each.sum()))

    def merge(self, other: Fidelity) -> Fidelity:
        """Both sets of images together."""
        return Fidelity(self.images + other.images, self.agree + other.agree, self.kl_sum + other.kl_sum)

    @property
    def agreement(self) -> float:
        """Fraction of the images on which both models choose the same class; NaN without images."""
        return self.agree / self.images if self.images else float("nan")

    @property
    def kl(self) -> float:
        """Mean KL(reference||model) in nats, at least 0 up to rounding; NaN without images."""
        return self.kl_sum / self.images if self.images else float("nan")


@dataclass(frozen=True)
class Equality:
    """How far the outputs of two models are from being the same bit for bit."""

    images: int = 0
    equal_images: int = 0
    max_abs_difference: float = 0.0

    @classmethod
    def from_logits(cls, left: Floats, right: Floats) -> Equality:
        """Compare one batch, both [N, C] float and free of NaN."""
        if left.shape != right.shape:
            raise EngineError(f"models to be compared put out {list(left.shape)} and {list(right.shape)}")
        equal = (left == right).all(axis=1)
        if equal.all():
            return cls(len(left), len(left))
        with np.errstate(invalid="ignore"):  # two equal infinities
            differing = left[~equal].astype(np.float64) - right[~equal].astype(np.float64)
        return cls(len(left), int(equal.sum()), float(np.nanmax(np.abs(differing))))

    def merge(self, other: Equality) -> Equality:
        """Both sets of images together."""
        return Equality(
            self.images + other.images,
            self.equal_images + other.equal_images,
            max(self.max_abs_difference, other.max_abs_difference),
        )

    @property
    def bit_equal(self) -> bool:
        """Whether every output of every image was the same number."""
        return self.equal_images == self.images


def label_ranks(logits: Floats, labels: Labels, *, model: str = "model") -> npt.NDArray[np.int64]:
    """The place of each label in the order of the classes, 0 first; equal values in the order of their index.

    Args:
        logits: [N, C] float.
        labels: [N] integer, in [0, C).
        model: what to call the model in messages.

    Returns:
        [N] int64: `(logits > own).sum() + (logits == own at a lower index).sum()`.

    Raises:
        EngineError: a value is NaN or plus infinity, or the ranks of the arrays are wrong.
        InputError: a label is outside [0, C).
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise EngineError(
            f"{model}: expected logits [N, C] and labels [N], got {logits.shape} and {labels.shape}"
        )
    check_finite(logits, model)
    check_labels(labels, logits.shape[1], model)
    own = logits[np.arange(len(labels)), labels][:, None]
    before = np.arange(logits.shape[1])[None, :] < labels[:, None]
    ranks: npt.NDArray[np.int64] = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return ranks


def count_ties(logits: Floats) -> int:
    """How many rows of [N, C] have their largest value more than once."""
    shared = (logits == logits.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return int(shared.sum())


def check_finite(logits: Floats, model: str) -> None:
    """Refuse NaN and plus infinity; minus infinity is a probability of zero and can be ranked.

    Raises:
        NonFiniteError: it says of which images.
    """
    bad = ~(logits < np.inf)
    if bad.any():
        raise NonFiniteError(model, tuple(np.flatnonzero(bad.any(axis=1)).tolist()), len(logits))


def check_labels(labels: Labels, classes: int, model: str) -> None:
    """Refuse labels that the model has no class for, and say how to shift them."""
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        shift = 1 if outside[0] >= classes else -1
        raise InputError(
            f"label {int(outside[0])} is outside 0..{classes - 1}, the classes of {model} ({outside.size} of "
            f"{labels.size} images of a batch); check the label file, or shift the labels with "
            f"the transform LabelShift: {{label_shift: {shift}}} (subtracted; 1001-class models with a "
            "background class want -1)"
        )


def log_probabilities(values: Floats, *, probabilities: bool) -> npt.NDArray[np.float64]:
    """Log of the class probabilities, [N, C] → [N, C] float64, bounded below at log 1.2e-38.

    From logits x by the stable log-softmax x - m - log Σ exp(x - m), m = max x. Probabilities are divided by
    their sum first, because those of an 8-bit softmax need not add up to 1.
    """
    x = values.astype(np.float64)
    if probabilities:
        total = np.maximum(x.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        clipped: npt.NDArray[np.float64] = log(np.clip(x / total, _PROBABILITY_FLOOR, 1.0))
        return clipped
    x -= x.max(axis=1, keepdims=True)
    x -= log(exp(x).sum(axis=1, keepdims=True))
    floored: npt.NDArray[np.float64] = np.maximum(x, _LOG_FLOOR)
    return floored


def divergences(
    reference: Floats, candidate: Floats, *, probabilities: bool = False, model: str = "model"
) -> npt.NDArray[np.float64]:
    """KL(reference||candidate) of each image in nats, [N, C] and [N, C] → [N]; see `Fidelity`.

    Args:
        reference: what the reference put out.
        candidate: what the model put out.
        probabilities: the outputs are softmax values already, not logits.
        model: what to call the candidate in messages.

    Raises:
        EngineError: shapes differ, or a value is NaN or plus infinity.
    """
    if reference.shape != candidate.shape:
        raise EngineError(f"{model}: expected outputs {list(reference.shape)}, got {list(candidate.shape)}")
    check_finite(reference, "reference")
    check_finite(candidate, model)
    log_p = log_probabilities(reference, probabilities=probabilities)
    log_q = log_probabilities(candidate, probabilities=probabilities)
    each: npt.NDArray[np.float64] = (exp(log_p) * (log_p - log_q)).sum(axis=1)
    return each


def guessing_accuracy(classes: int, images: int) -> float:
    """The accuracy below which a model may as well be guessing: 1/C, give or take two standard deviations.

    With 100 classes and more, also anything under 5 %: labels shifted by one still hit a few similar
    neighbours.
    """
    chance = 1 / classes
    guessing = chance + 2 * math.sqrt(chance * (1 - chance) / images)
    return max(guessing, 0.05) if classes >= 100 else guessing
